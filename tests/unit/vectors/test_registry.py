"""Which vector store the settings choose: a kind by its name, and where that kind keeps the vectors."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.bootstrap import open_store, places
from embedfleet.errors import ConfigError
from embedfleet.settings import Settings, load_settings
from embedfleet.vectors.registry import STORES, VIEWS, store_kind, view_kind


def settings_of(tmp_path: Path, **vector_store: str) -> Settings:
    return load_settings(environ={}, overrides={"data_dir": tmp_path, "vector_store": vector_store})


# Of the kinds that are servers only.
URLS = {"pgvector": "postgresql://me@db/vectors", "qdrant": "http://qdrant:6333"}


@pytest.mark.parametrize("name", STORES)
def test_every_kind_defines_all_that_is_asked_of_it(name: str, tmp_path: Path) -> None:
    kind = store_kind(name)
    where = {"url": URLS[name]} if name in URLS else {}
    assert kind.place(settings_of(tmp_path, kind=name, **where))
    assert callable(kind.open_store)
    assert callable(kind.open_for_queries)
    assert callable(kind.own_directory)
    assert kind.TITLE.lower() == name


@pytest.mark.parametrize("name", VIEWS)
def test_every_kind_that_views_lie_in_opens_one(name: str) -> None:
    assert callable(view_kind(name).open_view)


async def test_an_unknown_kind_is_refused_with_the_nearest_known_name(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, kind="croma")
    wrong = r"setting `vector_store\.kind`: unknown vector store `croma`: did you mean `chroma`\?"
    with pytest.raises(ConfigError, match=wrong):
        await open_store(settings)
    with pytest.raises(ConfigError, match=wrong):
        places(settings)


def test_a_url_makes_chroma_a_server_that_owns_no_directory_here(tmp_path: Path) -> None:
    chroma = store_kind("chroma")
    embedded = settings_of(tmp_path)
    assert chroma.place(embedded) == str(tmp_path / "chroma")
    assert chroma.own_directory(embedded) == tmp_path / "chroma"
    server = settings_of(tmp_path, url="http://fleet:secret@chroma:8000/vectors/")
    assert chroma.place(server) == "http://chroma:8000/vectors"
    assert chroma.own_directory(server) is None
