"""The tokens of a whole text, which are counted piece by piece."""

from __future__ import annotations

import random

import pytest

from embedfleet.chunking.counting import count_tokens
from embedfleet.chunking.tokenizers import Tokenizer, load_reference
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelsSettings

WORDS = [
    "the",
    "tokenization",
    "Zürich",
    "x" * 130,
    "don't",
    "日本語。漢字",
    "e\u0301",
    "ﬁne",
    "\n\n",
    "  ",
]


@pytest.mark.parametrize(
    "text",
    [
        "short",
        " \n" * 9_000,
        "x" * 20_000,  # no place to cut
        "漢字。" * 7_000,
        "word " * 60_000,
        " ".join(random.Random(7).choices(WORDS, k=30_000)),
        "a" * 8_192 + " b",
        "a" * 8_191 + " b" * 9_000,
    ],
    ids=["short", "blank", "one word", "wide", "long", "mixed", "a long word first", "to the border"],
)
def test_the_count_is_that_of_the_whole_text(tokenizer: Tokenizer, text: str) -> None:
    reference = load_reference(Catalogue(ModelsSettings()).info("minilm").tokenizer_file)
    assert count_tokens(text, tokenizer) == int(reference.encode_batch([text])[1].sum())
