"""Made-up prose: text to measure with, where no text of the user's own should be."""

from __future__ import annotations

from random import Random

_WORDS = str.split(
    "the of and to a in that is was for on are with as at by an be this from or have it not were had "
    "river stone market letter engine garden history island number paper question reason season silver "
    "station summer system table temple theory travel valley village voice water winter window writer "
    "carries changes covers decides explains follows measures offers opens reaches remains returns shows "
    "ancient careful common distant early familiar gentle heavy hidden narrow public quiet recent simple"
)


def made_up_prose(random: Random, characters: int) -> str:
    """Return at least this many characters: sentences of 4 to 30 words, paragraphs of 1 to 12 sentences.

    The same state of `random` gives the same text.
    """
    paragraphs: list[str] = []
    size = 0
    while size < characters:
        sentences = [
            " ".join(random.choices(_WORDS, k=random.randint(4, 30))).capitalize() + "."
            for _ in range(random.randint(1, 12))
        ]
        paragraphs.append(" ".join(sentences))
        size += len(paragraphs[-1])
    return "\n\n".join(paragraphs)
