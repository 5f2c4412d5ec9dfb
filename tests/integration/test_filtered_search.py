"""A filter never loses a hit: few allowed passages are compared each, many are looked up in the index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection

from embedfleet.bootstrap import open_guest
from embedfleet.document_filter import PassageFilter
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import ChunkingConfig, SearchHits
from embedfleet.records.collections import Collection
from embedfleet.searching.nearest_passages import Nearest, NearestPassages
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.metered import MeteredVectorStore
from embedfleet.vectors.port import CollectionKey, VectorStore
from support.databases import on_both_databases
from support.passages import Document, store_live
from support.statements import statements
from support.system import TENANT, running

DIM, COUNT, MOST = 16, 2_000, 10
SELECTIVITIES = (0.5, 0.1, 0.01, 0.001)


class WatchedStore(MeteredVectorStore):
    """A store that lets a test do something before vectors are read, and counts the vectors."""

    def __init__(self, store: VectorStore) -> None:
        super().__init__(store, Metrics().store_seconds)
        self.read = 0
        self.before_reading: Callable[[], Awaitable[object]] | None = None

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        self.read += len(ids)
        if self.before_reading is not None:
            await self.before_reading()
        return await super().vectors(collection, ids)


class Scene:
    """A collection whose documents have `share`, evenly between 0 and 1, and `far`, which is true for those
    that are farthest from `queries[0]`."""

    def __init__(self, database: Database, store: WatchedStore) -> None:
        self.database, self.store = database, store
        rng = np.random.default_rng(7)
        centres = rng.standard_normal((20, DIM))
        points = centres[rng.integers(0, 20, COUNT)] + 0.6 * rng.standard_normal((COUNT, DIM))
        self.vectors = unit(points)
        self.queries = unit(self.vectors[:4] + 0.1 * rng.standard_normal((4, DIM)))
        shares = (rng.permutation(COUNT) + 0.5) / COUNT
        far = np.argsort(self.vectors @ self.queries[0])[:150]
        self.made = [
            Document(f"{place:04}", f"text {place}", {"share": float(shares[place]), "far": place in far})
            for place in range(COUNT)
        ]
        self.place_of = {one.media_id: place for place, one in enumerate(self.made)}

    async def fill(self) -> Collection:
        return await store_live(self.database, self.store, TENANT, self.made, self.vectors)

    def nearest(self, query: NDArray[np.float32], allows: Callable[[dict[str, Any]], bool]) -> list[str]:
        """By brute force."""
        allowed = [place for place, one in enumerate(self.made) if allows(dict(one.metadata))]
        scores = self.vectors[allowed] @ query
        return [self.made[allowed[place]].media_id for place in np.argsort(-scores, kind="stable")[:MOST]]


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture
def data_dir(settings: Settings) -> Path:
    settings.data_dir.mkdir(exist_ok=True)
    return settings.data_dir


@pytest.fixture
async def scene(settings: Settings, data_dir: Path) -> AsyncIterator[Scene]:
    database = Database(settings.database_url, synchronous="normal")
    await database.open()
    store = await ChromaVectorStore.open(data_dir / "chroma")
    yield Scene(database, WatchedStore(store))
    await store.close()
    await database.close()


def has_less(metadata: dict[str, Any], share: float) -> bool:
    return bool(metadata["share"] < share)


def names(found: Nearest) -> list[str]:
    return [hit.media_id for hit in found.hits]


async def test_a_filter_gives_what_brute_force_gives_whatever_it_allows(scene: Scene) -> None:
    collection = await scene.fill()
    compared = NearestPassages(scene.database, scene.store, exact_scan_rows=COUNT)
    by_index = NearestPassages(scene.database, scene.store, exact_scan_rows=0)
    right = 0
    for query in scene.queries:
        for share in SELECTIVITIES:
            wanted = PassageFilter(where={"share": {"$lt": share}})
            expected = scene.nearest(query, partial(has_less, share=share))
            found = await compared.find(collection, query, wanted, most=MOST)
            assert (found.exact, found.candidates, found.lost) == (True, int(COUNT * share), 0)
            assert names(found) == expected
            found = await by_index.find(collection, query, wanted, most=MOST)
            assert len(found.hits) == len(expected)
            assert found.exact or share > SELECTIVITIES[-1]
            right += len(set(names(found)) & set(expected))
    # The index is approximate, also without a filter. It must not be worse with one.
    assert right >= 0.97 * len(scene.queries) * (3 * MOST + COUNT * SELECTIVITIES[-1])

    # What is allowed is far from the query, and the index gives what is near: so all of it is compared.
    query, wanted = scene.queries[0], PassageFilter(where={"far": True})
    found = await by_index.find(collection, query, wanted, most=MOST)
    assert names(found) == scene.nearest(query, lambda one: one["far"])


async def test_few_allowed_passages_are_compared_and_many_are_not(scene: Scene) -> None:
    collection = await scene.fill()
    search = NearestPassages(scene.database, scene.store, exact_scan_rows=200)
    for share, exact in ((0.1, True), (0.1005, False)):
        scene.store.read = 0
        wanted = PassageFilter(where={"share": {"$lt": share}})
        found = await search.find(collection, scene.queries[0], wanted, most=MOST)
        assert (found.exact, scene.store.read) == (exact, 200 if exact else 0)
    assert (await search.find(collection, scene.queries[0], PassageFilter(), most=MOST)).exact is False
    assert scene.store.read == 0


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_document_that_is_replaced_while_vectors_are_read_is_found_in_its_new_version(
    scene: Scene, deleted: bool
) -> None:
    vectors = unit(np.eye(3, DIM))
    old = [Document(name, f"old {name}", {"team": "a"}) for name in "123"]
    collection = await store_live(scene.database, scene.store, TENANT, old, vectors)
    new = Document("1", "new 1", {"team": "a"})

    async def replaced() -> None:
        scene.store.before_reading = None
        await store_live(scene.database, scene.store, TENANT, [new], vectors[:1], number=2)
        if deleted:
            await scene.store.delete(collection, [old[0].chunk_id])

    scene.store.before_reading = replaced
    search = NearestPassages(scene.database, scene.store, exact_scan_rows=10)
    found = await search.find(collection, vectors[0], PassageFilter(where={"team": "a"}), most=3)
    assert [hit.text for hit in found.hits] == ["new 1", "old 2", "old 3"]
    assert (found.exact, found.lost) == (True, 0)

    async def left_the_filter() -> None:
        scene.store.before_reading = None
        other = Document("1", "new 1", {"team": "b"})
        await store_live(scene.database, scene.store, TENANT, [other], vectors[:1], number=3)

    scene.store.before_reading = left_the_filter
    found = await search.find(collection, vectors[0], PassageFilter(where={"team": "a"}), most=3)
    assert ([hit.text for hit in found.hits], found.exact) == (["old 2", "old 3"], True)


async def test_an_answer_that_never_comes_to_rest_is_given_but_not_called_exact(scene: Scene) -> None:
    vectors = unit(np.eye(2, DIM))
    made = [Document(name, f"text {name}", {"team": "a"}) for name in "12"]
    collection = await store_live(scene.database, scene.store, TENANT, made, vectors)
    numbers = iter(range(2, 100))

    async def replaced() -> None:
        number = next(numbers)
        new = Document("1", f"version {number}", {"team": "a"})
        await store_live(scene.database, scene.store, TENANT, [new], vectors[:1], number=number)

    scene.store.before_reading = replaced
    search = NearestPassages(scene.database, scene.store, exact_scan_rows=10)
    async with asyncio.timeout(60):
        found = await search.find(collection, vectors[0], PassageFilter(where={"team": "a"}), most=2)
    assert ("2" in names(found), found.exact) == (True, False)


async def test_documents_of_another_model_are_no_candidates(scene: Scene) -> None:
    vectors = unit(np.eye(2, DIM))
    mine, others = (Document(name, f"text {name}", {"team": "a"}) for name in "12")
    collection = await store_live(scene.database, scene.store, TENANT, [mine], vectors[:1])
    await store_live(scene.database, scene.store, TENANT, [others], vectors[1:], space="another")
    search = NearestPassages(scene.database, scene.store, exact_scan_rows=10)
    found = await search.find(collection, vectors[0], PassageFilter(where={"team": "a"}), most=2)
    assert (names(found), found.exact, found.candidates, found.lost) == (["1"], True, 1, 0)


async def test_vectors_that_the_store_lost_are_counted_and_the_answer_is_not_exact(scene: Scene) -> None:
    vectors = unit(np.eye(3, DIM))
    made = [Document(name, f"text {name}", {"team": "a"}) for name in "123"]
    collection = await store_live(scene.database, scene.store, TENANT, made, vectors)
    await scene.store.delete(collection, [made[0].chunk_id])
    search = NearestPassages(scene.database, scene.store, exact_scan_rows=10)
    found = await search.find(collection, vectors[0], PassageFilter(source=None, where={"team": "a"}), most=3)
    assert (names(found), found.exact, found.candidates, found.lost) == (["2", "3"], False, 2, 1)


@on_both_databases
async def test_a_search_takes_every_filter_and_a_guest_gets_the_same(settings: Settings) -> None:
    async with running(settings) as fleet, open_guest(settings) as guest:

        async def found(**filters: Any) -> SearchHits:
            return await fleet.system.search.search(TENANT, SearchRequest(query="words", **filters))

        async def ids(**filters: Any) -> set[str]:
            hits = await found(**filters)
            assert hits.exact
            return {hit.media_id for hit in hits}

        markdown = "# Guide\n\nWords to begin.\n\n## Install\n\nWords of Linux.\n"
        await fleet.ingest(
            "1",
            markdown,
            content_type="markdown",
            chunking_config=ChunkingConfig(chunk_size=30, overlap=0),
            source="/docs/a.md",
            metadata={"team": "legal", "n": 1},
        )
        await fleet.ingest("2", "Words of another.", source="/DOCS/b.md", metadata={"tags": ["x", "y"]})
        await fleet.ingest("3", "Words of a third.", source="/docs/c_d.md")
        assert await ids(where={"team": "legal"}) == {"1"}
        assert await ids(where={"team": {"$ne": "legal"}}) == {"2", "3"}
        assert await ids(where={"tags": {"$contains": "y"}}) == {"2"}
        assert await ids(media_ids=[3, "1"]) == {"1", "3"}
        assert await ids(source="/docs/") == {"1", "3"}
        assert await ids(source="/docs/c_") == {"3"}
        assert await ids(source="/docs/_") == set()
        assert await ids(created_after=datetime(2020, 1, 1, tzinfo=UTC)) == {"1", "2", "3"}
        assert await ids(created_before=datetime(2020, 1, 1, tzinfo=UTC)) == set()
        assert await ids(source="/docs/", where={"team": "legal"}, media_ids=["1", "2"]) == {"1"}
        for heading, headings in {
            "Install": {"Guide > Install"},
            "Guide": {"Guide", "Guide > Install"},
            "Guide > Install": {"Guide > Install"},
            "Inst": set(),
        }.items():
            assert {hit.heading for hit in await found(heading=heading)} == headings, heading

        hits = await found(where={"team": "legal"}, limit=1)
        request = SearchRequest(query="words", where={"team": "legal"}, limit=1)
        assert (await guest.search.search(TENANT, request)).json_document() == hits.json_document()
        assert hits[0].metadata == {"team": "legal", "n": 1}
        assert (hits.exact, hits.candidates, hits.notice) == (True, 2, None)
        nothing = await found(where={"team": "none"})
        assert (nothing.exact, nothing.candidates, nothing.remedy) == (True, 0, None)
        assert nothing.notice == f"the filter allows no passage of tenant `{TENANT}`"
        all_of_it = await found()
        assert (all_of_it.exact, all_of_it.candidates, len(all_of_it)) == (False, 4, 4)

        # A filter counts by the metadata of now, though the rows of the store may have that of before.
        await fleet.jobs.of(TENANT).set_metadata(media_id=3, patch={"team": "legal"})
        assert await ids(where={"team": "legal"}) == {"1", "3"}


async def test_a_search_without_a_filter_asks_sql_twice_and_looks_for_chunks_only(scene: Scene) -> None:
    """Whatever the number of the tenant's documents: its cost does not grow with them."""
    vectors = unit(np.eye(3, DIM))
    made = [Document(name, f"text {name}", {}) for name in "123"]
    collection = await store_live(scene.database, scene.store, TENANT, made, vectors)
    search = NearestPassages(scene.database, scene.store, exact_scan_rows=10)
    with statements() as asked:
        found = await search.find(collection, vectors[0], PassageFilter(), most=3)
    assert (len(found.hits), len(asked)) == (3, 2)

    def plan(conn: Connection) -> str:
        sql = asked[0].sql
        (first, *_) = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", ("",) * sql.count("?"))
        return str(first.detail)

    assert "ix_chunks_chunk_id" in await scene.database.read(plan)
