"""Whose the collections of other systems are, and to which documents their rows belong."""

from __future__ import annotations

from typing import Any

import pytest

from embedfleet.adoption.layout import LayoutOptions, RowLabel, number_at, usual_facts
from embedfleet.adoption.layouts import LAYOUTS, layout_of
from embedfleet.errors import InvalidRequest
from embedfleet.vectors.source import SourceCollection
from embedfleet.views.layout import DOCUMENT

TLDW = layout_of("tldw", LayoutOptions("unused"))


def collection(name: str, **metadata: Any) -> SourceCollection:
    return SourceCollection(name, 1, "l2", metadata)


@pytest.mark.parametrize(
    ("name", "tenant"),
    [
        ("user_7_media_embeddings", "7"),
        ("user_embeddings_for_7", "7"),
        ("claims_for_7", None),
        ("kanban_user_7", None),
        ("user_7_workflows", None),
        ("vs_0123456789abcdef01234567", None),
    ],
)
def test_only_the_collections_of_media_are_taken_from_tldw(name: str, tenant: str | None) -> None:
    assert TLDW.tenant_of(collection(name)) == tenant


@pytest.mark.parametrize(
    ("row_id", "metadata", "label"),
    [
        ("media_5_chunk_2", {"media_id": "5", "chunk_index": 2}, RowLabel("5", 2)),
        ("5_chunk_2", {"media_id": 5, "embedding_model": "m"}, RowLabel("5", 2, "", "m")),
        ("media_5_chunk_2", {}, RowLabel("5", 2)),
        ("x", {"media_id": "5", "embedding_provider": "p"}, RowLabel("5", None, "p")),
        ("x", {}, None),
    ],
)
def test_a_row_of_tldw_says_its_media_item_in_its_metadata_or_in_its_id(
    row_id: str, metadata: dict[str, Any], label: RowLabel | None
) -> None:
    assert TLDW.label(row_id, metadata, collection("user_embeddings_for_7")) == label


def test_the_model_of_a_row_may_be_that_of_its_collection() -> None:
    of_all = collection("user_embeddings_for_7", source_model_id="m", embedding_dimension=3)
    assert TLDW.label("5_chunk_0", {}, of_all) == RowLabel("5", 0, "", "m")


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_that_a_view_wrote_are_told(name: str) -> None:
    layout = layout_of(name, LayoutOptions("t"))
    assert layout.is_of_view({DOCUMENT: "d", "chunk_start": 0.0})
    assert not layout.is_of_view({"chunk_start": 0.0})


def test_a_row_that_tldw_wrote_over_one_of_a_view_is_its_own() -> None:
    written_over = {DOCUMENT: "d", "chunk_start": 0, "total_chunks": 9}
    assert not TLDW.is_of_view(written_over)
    assert TLDW.facts(written_over).chunks is None


def test_rows_of_langchain_with_one_source_are_one_document_in_the_order_of_their_starts() -> None:
    layout = layout_of("langchain", LayoutOptions("t"))
    assert layout.tenant_of(collection("langchain")) == "t"
    assert layout.label("u", {"source": "a.pdf", "start_index": 80}, collection("x")) == RowLabel("a.pdf", 80)
    assert layout.label("u", {}, collection("x")) == RowLabel("u", None)
    assert layout.facts({"page": 0, "start_index": 80}).page == 1


def test_a_plain_row_is_of_the_document_that_the_key_names_or_alone() -> None:
    layout = layout_of("plain", LayoutOptions("t"))
    assert layout.label("u", {"doc_id": 5, "chunk": "3"}, collection("x")) == RowLabel("5", 3)
    assert layout.label("u", {}, collection("x", model="m")) == RowLabel("u", None, "", "m")
    keyed = layout_of("plain", LayoutOptions("t", "case"))
    assert keyed.label("u", {"doc_id": "5", "case": "c"}, collection("x")) == RowLabel("c", None)


def test_an_unknown_layout_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidRequest, match="did you mean `tldw`"):
        layout_of("tdlw", LayoutOptions("t"))
    assert all(layout_of(name, LayoutOptions("t")).name == name for name in LAYOUTS)


@pytest.mark.parametrize("large", [2**31, 2**63 - 1, "9" * 30, "9" * 5_000, 1e300])
def test_a_number_that_sql_cannot_hold_is_none(large: object) -> None:
    assert number_at({"page": large}, "page") is None
    assert number_at({"page": large, "page_number": 2**31 - 1}, "page", "page_number") == 2**31 - 1


def test_an_id_with_a_number_that_is_no_index_says_none() -> None:
    label = TLDW.label(f"media_7_chunk_{'9' * 5_000}", {}, collection("user_1_media_embeddings"))
    assert label is not None
    assert (label.media_id, label.index) == ("7", None)


def test_a_heading_has_no_character_that_postgresql_refuses() -> None:
    assert usual_facts({"heading": "a\0b"}).heading == "ab"
