"""Questions that belong to no passage in particular: the background of scores is measured with them.

Real questions are not kept. So beginnings of passages stand for them: those of the tenant's other spaces, as
passages of the same space may well be answers. A few questions of everyday life are for tenants with few
passages. All are embedded as queries: a model that embeds queries and passages in different ways gives two
passages other cosines than a query and a passage.
"""

from __future__ import annotations

QUESTIONS_OF_A_SPACE = 32
"""How many passages of a space are turned into questions for the other spaces."""
PASSAGES_OF_A_SPACE = 256
"""How many passages of a space are compared with the questions: they stand for all of it."""

_WORDS = 12
_CHARS = 120

GENERAL = (
    "how do I reset my password",
    "opening hours on public holidays",
    "what is the capital of Australia",
    "history of the Roman empire",
    "read a file line by line",
    "symptoms of a cold",
    "annual report of the company",
    "how to bake bread at home",
    "terms of the contract about notice",
    "sort a list of numbers",
    "invoice number and date of payment",
    "best time to plant tomatoes",
    "error while connecting to the server",
    "results of the match on Saturday",
    "speed of light in water",
    "minutes of the last meeting",
    "train from the airport to the city",
    "function that returns the largest value",
    "who wrote this novel",
    "weather in the mountains in winter",
    "how are taxes on income calculated",
    "install the software on Linux",
    "side effects of the medicine",
    "lyrics of an old folk song",
)


def question_of(passage: str) -> str:
    """Return the beginning of a passage, as long as a question is."""
    return " ".join(passage.split()[:_WORDS])[:_CHARS]
