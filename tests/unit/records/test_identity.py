"""Ids: the same input has one id, two different inputs never share one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedfleet.records.identity import ChunkIds, ContentHash, document_id

texts = st.text(max_size=20)


def test_an_id_is_the_same_in_every_process_and_release() -> None:
    assert document_id("tenant", "media") == "649301bd91c7324ce5e5d98d4bfc7d73"
    assert ChunkIds("d", "s").next_id("text") == "cea85da24fa93654b6e11a38fecc355d"


@given(st.tuples(texts, texts), st.tuples(texts, texts))
def test_nothing_in_one_part_of_a_name_can_make_it_another(a: tuple[str, str], b: tuple[str, str]) -> None:
    assert (document_id(*a) == document_id(*b)) == (a == b)


@given(st.lists(texts, max_size=10), st.lists(texts, max_size=10))
def test_a_chunk_keeps_its_id_whatever_comes_before_but_its_like(before: list[str], text: list[str]) -> None:
    alone, later = ChunkIds("d", "s"), ChunkIds("d", "s")
    for other in before:
        later.next_id(other)
    for one in text:
        expected = alone.next_id(one)
        assert (later.next_id(one) == expected) or one in before


def test_equal_texts_of_a_document_have_ids_of_their_own() -> None:
    ids = ChunkIds("d", "s")
    assert len({ids.next_id("same") for _ in range(5)}) == 5


def test_another_document_or_space_has_other_ids() -> None:
    made = {ChunkIds(document, space).next_id("text") for document in "ab" for space in "xy"}
    assert len(made) == 4


@given(st.text(max_size=50), st.integers(0, 50))
def test_a_content_hash_does_not_depend_on_where_the_text_is_cut(text: str, cut: int) -> None:
    whole, parts = ContentHash(), ContentHash()
    whole.update(text)
    parts.update(text[:cut])
    parts.update(text[cut:])
    assert whole.hexdigest() == parts.hexdigest()
