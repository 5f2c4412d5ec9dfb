"""The account of what a model does not know of a document."""

from __future__ import annotations

import pytest

from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.tokenizers import Tokenizer
from embedfleet.chunking.unknown import UnknownText, percent
from embedfleet.queue_schemas import ChunkingConfig


def unknown_in(tokenizer: Tokenizer, text: str, config: ChunkingConfig | None = None) -> UnknownText:
    unknown = UnknownText()
    for some in Chunker(tokenizer, config or ChunkingConfig(), max_tokens=254).split([text]):
        for chunk in some:
            unknown.add(chunk)
    return unknown


def test_a_text_that_is_known_has_no_entry(tokenizer: Tokenizer) -> None:
    assert unknown_in(tokenizer, "All of this is known.").entry(visible=19, in_no_chunk=0) is None


def test_the_entry_says_how_much_is_unknown_and_in_which_script(tokenizer: Tokenizer) -> None:
    entry = unknown_in(tokenizer, "menu 婚礼邀请函").entry(visible=9, in_no_chunk=0)
    assert entry is not None
    assert (entry.count, entry.chars, entry.places) == (5, 5, ("56% of the text", "CJK"))
    assert entry.line == (
        "lost: 5 tokens that the model does not know (56% of the text, CJK): searches cannot find this: "
        "embed it with a model that knows it, such as a multilingual one"
    )


def test_what_two_chunks_share_is_counted_once(tokenizer: Tokenizer) -> None:
    text = "婚礼。 邀请函。 " * 40
    shared = unknown_in(tokenizer, text, ChunkingConfig(chunk_size=60, overlap=30))
    apart = unknown_in(tokenizer, text, ChunkingConfig(chunk_size=60, overlap=0))
    assert shared.chars == apart.chars == 5 * 40
    assert shared.tokens > apart.tokens == 5 * 40


def test_a_word_that_is_too_long_is_unknown_as_a_whole(tokenizer: Tokenizer) -> None:
    assert unknown_in(tokenizer, "see " + "x" * 101).chars == 101


@pytest.mark.parametrize(
    ("share", "told"), [(0.0, "0%"), (0.001, "under 1%"), (0.5, "50%"), (0.999, "99%"), (1.0, "100%")]
)
def test_only_all_is_100_percent(share: float, told: str) -> None:
    assert percent(share) == told
