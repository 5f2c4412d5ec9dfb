"""What is decided of a document by its rows and its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.adoption.judging import Judged, Outcome, Reason, SourceRow, judged
from embedfleet.adoption.layout import LayoutOptions, RowFacts
from embedfleet.adoption.layouts import layout_of
from embedfleet.adoption.texts import KnownText
from embedfleet.chunking.characters import is_blank

LAYOUT = layout_of("tldw", LayoutOptions("t"))
CHUNKS = ["First chunk.", "Second chunk.", "Third chunk."]
TEXT = "\n\n".join(CHUNKS)


def judge(
    chunks: Sequence[str], text: str | None, *, gone: bool = False, of: Sequence[Mapping[str, Any]] = ()
) -> Judged:
    metadatas = of or [{}] * len(chunks)
    rows = [
        SourceRow(place, place, chunk, metadata, LAYOUT.facts(metadata))
        for place, (chunk, metadata) in enumerate(zip(chunks, metadatas, strict=True))
    ]
    return judged(rows, None if text is None else KnownText(text, gone=gone), LAYOUT)


def verdict(found: Judged) -> tuple[Outcome, Reason, int, int]:
    return found.outcome, found.reason, len(found.placed), found.stale


def test_rows_that_are_all_of_the_text_are_right() -> None:
    found = judge(CHUNKS, TEXT)
    assert verdict(found) == (Outcome.TAKE, Reason.RIGHT, 3, 0)
    assert [TEXT[slice(*one.span)] for one in found.placed] == CHUNKS
    assert found.coverage == 1.0


def test_rows_of_a_version_before_are_stale() -> None:
    assert verdict(judge(CHUNKS, "First chunk.")) == (Outcome.TAKE, Reason.RIGHT, 1, 2)
    # The same, told by the rows alone: the newest version has written the first row.
    counts = [{"total_chunks": 1}, {"total_chunks": 3}, {"total_chunks": 3}]
    found = judge(CHUNKS, None, of=counts)
    assert verdict(found) == (Outcome.TAKE, Reason.RIGHT, 1, 2)
    assert found.text == "First chunk."


def test_a_chunk_that_the_text_has_once_is_taken_once() -> None:
    assert verdict(judge([*CHUNKS, "Third chunk."], TEXT)) == (Outcome.TAKE, Reason.RIGHT, 3, 1)


def test_a_text_with_something_that_no_row_has_has_changed() -> None:
    assert verdict(judge(CHUNKS, f"{TEXT} And more."))[:2] == (Outcome.EMBED, Reason.CHANGED)
    assert verdict(judge(["Other words."], TEXT))[:2] == (Outcome.EMBED, Reason.CHANGED)


def test_what_was_thrown_away_is_dropped() -> None:
    assert verdict(judge(CHUNKS, TEXT, gone=True))[:2] == (Outcome.DROP, Reason.TEXT_GONE)


@pytest.mark.parametrize(("chunks", "text"), [(["", ""], None), (CHUNKS, " \n"), ([], None)])
def test_a_document_without_a_text_is_refused(chunks: Sequence[str], text: str | None) -> None:
    assert verdict(judge(chunks, text))[:2] == (Outcome.REFUSE, Reason.NO_TEXT)


def test_metadata_that_all_rows_share_are_the_documents() -> None:
    shared = {"media_type": "article", "tags": ["a"], "author": "", "title": "T", "url": "https://e.org"}
    own = [{"chunk_index": place, "chunk_hash": str(place), "bad name!": 1} for place in range(3)]
    found = judge(CHUNKS, None, of=[shared | one for one in own])
    assert found.metadata == {
        "media_type": "article",
        "tags": ["a"],
        "author": "",
        "title": "T",
        "url": "https://e.org",
    }
    assert (found.title, found.source) == ("T", "https://e.org")


def test_metadata_that_a_document_cannot_have_are_left_out_by_name() -> None:
    of = [{"ok": 1, "nul": "a\0b", "user_id": "x", "big": "y" * 5_000, "bigger": "z" * 5_000}]
    found = judge(["A chunk."], None, of=of)
    assert found.metadata == {"ok": 1, "big": "y" * 5_000}
    assert found.lost_metadata == ["nul", "user_id", "bigger"]
    many = {f"name_{number}": number for number in range(70)}
    found = judge(["A chunk."], None, of=[many])
    assert [*found.metadata, *found.lost_metadata] == list(many)
    assert len(found.lost_metadata) == 6


@given(
    text=st.text(st.sampled_from("abc. \n"), min_size=1, max_size=60),
    size=st.integers(1, 12),
    dropped=st.sets(st.integers(0, 20), max_size=2),
    foreign=st.lists(st.tuples(st.integers(0, 20), st.text(st.sampled_from("abx "), max_size=9)), max_size=3),
)
def test_what_is_taken_has_all_of_the_text_and_each_chunk_is_in_it(
    text: str, size: int, dropped: set[int], foreign: list[tuple[int, str]]
) -> None:
    """Some chunks are lost, and rows of other versions are among them."""
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    chunks = [chunk for number, chunk in enumerate(chunks) if number not in dropped]
    for place, row in foreign:
        chunks.insert(place, row)
    found = judge(chunks, text)
    for one in found.placed:
        assert text[slice(*one.span)].split() == one.row.text.split()
    assert len(found.placed) + found.stale == len({(row, place) for place, row in enumerate(chunks)})
    if found.outcome is Outcome.TAKE:
        covered = {at for one in found.placed for at in range(*one.span)}
        assert {at for at, blank in enumerate(is_blank(text)) if not blank} <= covered


def test_a_row_that_repeats_another_is_counted() -> None:
    facts = RowFacts()
    rows = [
        SourceRow(place, None, text, {}, facts) for place, text in enumerate(["Same.", "Same.", "Other."])
    ]
    assert verdict(judged(rows, None, LAYOUT)) == (Outcome.TAKE, Reason.RIGHT, 2, 1)
