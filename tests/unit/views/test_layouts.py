"""Layouts are pure: what each makes of a passage, and which names it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedfleet.errors import ConfigError
from embedfleet.settings import ViewSettings
from embedfleet.views.layout import DOCUMENT, Passage, ReaderModel, is_plain
from embedfleet.views.layouts import LAYOUTS, layout_named
from embedfleet.views.view import View

MODEL = ReaderModel("local_api", "minilm")
PASSAGE = Passage(
    media_id="12",
    chunk_id="ab" * 16,
    chunk_index=3,
    total_chunks=5,
    start=100,
    end=180,
    heading="Loomings",
    title="Moby",
    source="moby.txt",
    content_type="text",
    page=7,
    metadata={"author": "Melville", "tags": ["sea", "whale"]},
)


def test_a_row_of_tldw_has_the_keys_that_its_rag_reads() -> None:
    row = LAYOUTS["tldw"].metadata(PASSAGE, MODEL)
    assert LAYOUTS["tldw"].row_id(PASSAGE) == "media_12_chunk_3"
    assert row == {
        "media_id": "12",
        "kind": "chunk",
        "chunk_index": 3,
        "total_chunks": 5,
        "chunk_start": 100.0,
        "chunk_end": 180.0,
        "start_char": 100,
        "end_char": 180,
        "chunk_type": "text",
        "embedding_provider": "local_api",
        "embedding_model": "minilm",
        "title": "Moby",
        "author": "Melville",
        "media_type": "text",
        "section_title": "Loomings",
        "page_number": 7,
        "source": "moby.txt",
        "tags": ["sea", "whale"],
    }


def test_a_row_of_langchain_has_flat_metadata_and_the_id_of_its_chunk() -> None:
    row = LAYOUTS["langchain"].metadata(PASSAGE, MODEL)
    assert LAYOUTS["langchain"].row_id(PASSAGE) == PASSAGE.chunk_id
    assert row == {
        "media_id": "12",
        "source": "moby.txt",
        "title": "Moby",
        "heading": "Loomings",
        "start_index": 100,
        "end_index": 180,
        "page": 6,
        "page_label": "7",
        "content_type": "text",
        "author": "Melville",
        "tags": ["sea", "whale"],
    }


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_metadata_of_a_submitter_cannot_take_the_place_of_what_finds_a_row(name: str) -> None:
    layout = LAYOUTS[name]
    named = {"media_id": "99", "kind": "question", "embedding_model": "other", "chunk_start": "x"}
    row = layout.metadata(replace(PASSAGE, metadata=named), MODEL)
    plain = layout.metadata(replace(PASSAGE, metadata={}), MODEL)
    assert row[layout.document_key] == "12"
    assert {key: row[key] for key in plain if key in ("kind", "embedding_model", "chunk_start")} == {
        key: plain[key] for key in plain if key in ("kind", "embedding_model", "chunk_start")
    }
    assert layout.is_ours({**row, DOCUMENT: "d"})


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_the_tenant_of_a_collection_is_read_back(name: str) -> None:
    layout = LAYOUTS[name]
    assert layout.tenant_of(layout.collection("7")) == "7"
    assert layout.tenant_of("claims_for_7") is None


def test_what_tldw_has_written_again_is_not_ours() -> None:
    ours = {**LAYOUTS["tldw"].metadata(PASSAGE, MODEL), DOCUMENT: "d"}
    assert LAYOUTS["tldw"].is_ours(ours)
    assert not LAYOUTS["tldw"].is_ours({**ours, "chunk_start": 100})
    assert not LAYOUTS["tldw"].is_ours({"media_id": "12", "chunk_start": 1.0})


@pytest.mark.parametrize("tenant", ["../7", "..", "a/b", "", "a b", "é", ".7", "shadow:1", "7\n", "a" * 129])
def test_a_tenant_whose_name_could_be_another_place_is_not_plain(tenant: str) -> None:
    assert not is_plain(tenant)


def test_an_unknown_layout_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `tldw`"):
        layout_named("tldv")


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"path": "p", "collection": "mine"}, ["local"]),
        ({"path": "p"}, ["local", "7"]),
        ({"path": "p", "collection": "mine_{tenant}"}, ["local", "7"]),
        ({"path": "p/{tenant}", "collection": "mine"}, ["local", "7"]),
    ],
)
def test_a_single_collection_shows_one_tenant(more: dict[str, str], shown: list[str]) -> None:
    """With the rows of two tenants, each would overwrite and delete those of the other."""
    view = View.open(ViewSettings.model_validate({"name": "rag", "layout": "tldw"} | more), "stub", "local")
    assert [tenant for tenant in ("local", "7", "a/b") if view.shows(tenant)] == shown
