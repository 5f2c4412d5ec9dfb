"""What every store of a view promises: in a directory of the reader, and on a server that it uses too."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from embedfleet.errors import Permanent, SpaceMismatch, VectorStoreUnavailable
from embedfleet.vectors.chroma.directory_users import users_of
from embedfleet.vectors.chroma.view_store import ChromaViewDirectories, ChromaViewServer
from embedfleet.vectors.port import VectorRows
from embedfleet.vectors.view_port import ViewCollection, ViewStore
from support.chroma_server import ChromaServer
from support.loopback_server import free_port
from support.view_readers import open_client

DIM = 4


def collection(tenant: str = "7") -> ViewCollection:
    """A collection that no other test has: a server is shared."""
    about: dict[str, str | int] = {"embedding_dimension": DIM, "source_model_id": "small"}
    return ViewCollection(tenant, f"of_{tenant}_{uuid4().hex}", DIM, "l2", about, frozenset(about))


def rows(*ids: str, text: str = "a text", **metadata: str) -> VectorRows:
    vectors = np.random.default_rng(len(ids)).normal(size=(len(ids), DIM)).astype(np.float32)
    return VectorRows(
        ids, vectors, [{"media_id": row_id[0], **metadata} for row_id in ids], [text] * len(ids)
    )


@pytest.fixture(params=["directory", "server"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ViewStore]:
    opened: ViewStore
    if request.param == "directory":
        opened = ChromaViewDirectories(str(tmp_path / "{tenant}" / "chroma"), beside_reader=False)
    else:
        server: ChromaServer = request.getfixturevalue("chroma_server")
        opened = ChromaViewServer(server.url, {}, timeout_seconds=30)
    yield opened
    await opened.close()


async def test_rows_are_written_read_replaced_and_deleted_bit_by_bit(store: ViewStore) -> None:
    mine, other = collection(), collection("8")
    for one in (mine, other):
        await store.ensure(one)
        await store.ensure(one)
    written = rows("1a", "1b", "2a", author="old")
    await store.upsert(mine, written)
    await store.upsert(other, rows("1a"))
    held = await store.rows(mine, ["1b", "2a", "1a", "absent"])
    order = [held.ids.index(row_id) for row_id in written.ids]
    assert np.array_equal(held.vectors[order], written.vectors)
    await store.upsert(mine, rows("1a", text="another", title="new"))
    [again] = (await store.rows(mine, ["1a"])).metadatas
    assert again == {"media_id": "1", "title": "new"}  # nothing of the old metadata is left
    labels = await store.labels_with(mine, "media_id", ["1", "9"])
    assert labels.keys() == {"1a", "1b"}
    await store.rest()
    await store.delete(mine, ["1a", "absent"])
    assert [ids async for ids, _ in store.labels(mine, page=1)] == [["1b"], ["2a"]]
    await store.forget_deleted(mine)
    assert (await store.rows(other, ["1a"])).texts == ["a text"]


async def test_a_collection_that_is_not_there_has_no_rows_and_takes_none(store: ViewStore) -> None:
    missing = collection()
    assert await store.labels_with(missing, "media_id", ["1"]) == {}
    assert list((await store.rows(missing, ["1a"])).ids) == []
    assert [page async for page in store.labels(missing)] == []
    await store.delete(missing, ["1a"])
    await store.forget_deleted(missing)
    with pytest.raises(VectorStoreUnavailable, match="ensure"):
        await store.upsert(missing, rows("1a"))


async def test_vectors_of_another_model_are_refused(store: ViewStore) -> None:
    mine = collection()
    await store.ensure(mine)
    with pytest.raises(SpaceMismatch, match="`source_model_id` is `small`, not `large`"):
        await store.ensure(replace(mine, metadata={"embedding_dimension": DIM, "source_model_id": "large"}))
    await store.upsert(mine, rows("1a"))
    with pytest.raises(SpaceMismatch, match="4 dimensions, not 5"):
        await store.ensure(replace(mine, dim=5, fixed=frozenset()))


async def test_what_chroma_does_not_take_is_permanent(store: ViewStore) -> None:
    with pytest.raises(Permanent, match="name"):
        await store.ensure(replace(collection(), name="x"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")
async def test_a_directory_that_another_process_has_open_is_left_alone_unless_that_is_allowed(
    tmp_path: Path,
) -> None:
    mine = collection()
    alone = ChromaViewDirectories(str(tmp_path), beside_reader=False)
    beside = ChromaViewDirectories(str(tmp_path), beside_reader=True)
    try:
        with open_client(tmp_path):
            with pytest.raises(VectorStoreUnavailable, match="is open in process"):
                await alone.ensure(mine)
            await beside.ensure(mine)
            await beside.rest()
        await alone.upsert(mine, rows("1a"))
        await alone.rest()
        await beside.upsert(mine, rows("1b"))
    finally:
        await alone.close()
        await beside.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")
async def test_a_view_at_rest_has_no_file_of_its_directory_open(tmp_path: Path) -> None:
    mine = collection()
    view = ChromaViewDirectories(str(tmp_path), beside_reader=False)
    try:
        for _ in range(20):  # Chroma closes its files on a thread, so it may be quick by chance
            await view.ensure(mine)
            await view.upsert(mine, rows("1a"))
            assert users_of(tmp_path)
            await view.rest()
            assert users_of(tmp_path) == []
    finally:
        await view.close()


async def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    store = ChromaViewServer(f"http://127.0.0.1:{port}", {}, timeout_seconds=30)
    try:
        with pytest.raises(VectorStoreUnavailable, match="no answer"):
            await store.ensure(collection())
        with ChromaServer(tmp_path / "data", port=port):
            await store.ensure(collection())
    finally:
        await store.close()


async def test_a_file_or_a_link_to_nothing_in_the_place_of_the_directory_is_no_empty_view(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("a text")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    store = ChromaViewDirectories(str(tmp_path / "{tenant}"), beside_reader=False)
    try:
        for tenant in ("file", "link"):
            with pytest.raises(VectorStoreUnavailable, match=f"{tenant} is no directory, name another path"):
                await store.rows(collection(tenant), ["1a"])
            with pytest.raises(VectorStoreUnavailable, match="name another path"):
                await store.ensure(collection(tenant))
    finally:
        await store.close()
