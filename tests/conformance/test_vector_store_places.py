"""What every vector store promises as a whole: any names, many tenants, recall, restarts, killed writers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.document_filter import PassageFilter
from embedfleet.paging import pages
from embedfleet.searching.nearest_passages import NearestPassages
from embedfleet.sql.database import Database
from embedfleet.vectors.port import StoreDebt, TenantSpace, VectorRows, VectorStore
from support.clusters import clustered
from support.passages import Document, store_live
from support.store_writer import WRITTEN, batch_ids, batch_vectors
from support.stores import StorePlace

BOOKS = TenantSpace("acme", "wide/v1", 32)
MOST = 10


@pytest.fixture
async def store(place: StorePlace) -> AsyncIterator[VectorStore]:
    """Holding nothing but an empty collection of books."""
    opened = await place.open()
    await opened.ensure_collection(BOOKS)
    yield opened
    await opened.close()


def rows(ids: list[str], vectors: NDArray[np.float32], text: str = "") -> VectorRows:
    return VectorRows(ids, vectors, [{"job_id": "j"}] * len(ids), [f"{text}{row_id}" for row_id in ids])


async def bits(store: VectorStore) -> dict[str, bytes]:
    return {
        row_id: vector.tobytes()
        async for ids, vectors in store.scan(BOOKS)
        for row_id, vector in zip(ids, vectors, strict=True)
    }


async def tended(store: VectorStore) -> None:
    """Return when the store has put off no upkeep any more."""
    while await store.debt() != StoreDebt():
        await store.tend()


class TestRestarts:
    async def test_a_vector_has_the_same_bits_after_upkeep_and_in_a_store_that_is_opened_again(
        self, store: VectorStore, place: StorePlace
    ) -> None:
        vectors = 3 * clustered(2_500, BOOKS.dim)
        ids = [f"row {number}" for number in range(len(vectors))]
        for first, part in enumerate(pages(ids, 500)):
            await store.upsert(BOOKS, rows(part, vectors[500 * first :][: len(part)]))
        written = await bits(store)
        assert written.keys() == set(ids)
        await tended(store)
        assert await bits(store) == written
        await store.close()
        again = await place.open()
        assert await bits(again) == written
        found, read = await again.vectors(BOOKS, ids[:50])
        assert {row_id: row.tobytes() for row_id, row in zip(found, read, strict=True)} == {
            row_id: written[row_id] for row_id in ids[:50]
        }
        await again.close()

    async def test_what_upsert_has_returned_from_survives_a_writer_that_is_killed(
        self, place: StorePlace
    ) -> None:
        """Twice: the next writer works on what the killed one has left behind."""
        for _ in range(2):
            with place.killed_writer() as written:
                acknowledged = list(islice(written, 5))
            store = await place.open()
            for number in acknowledged:
                ids, vectors = await store.vectors(WRITTEN, batch_ids(number))
                assert set(ids) == set(batch_ids(number))
                found = dict(zip(ids, vectors, strict=True))
                in_order = np.stack([found[row_id] for row_id in batch_ids(number)])
                np.testing.assert_allclose(in_order, batch_vectors(number), rtol=0, atol=1e-6)
            seen = [row_id async for page, _ in store.scan(WRITTEN) for row_id in page]
            assert len(seen) == len(set(seen)) == await store.count(WRITTEN)
            hits = await store.query(WRITTEN, batch_vectors(acknowledged[-1])[0], limit=1)
            assert [hit.id for hit in hits] == batch_ids(acknowledged[-1])[:1]
            await store.upsert(
                WRITTEN, VectorRows(["new"], batch_vectors(1_000)[:1], [{"job_id": "j"}], None)
            )
            await store.delete(WRITTEN, ["new"])
            await store.close()


HOSTILE = (
    "",
    "a" * 300,
    "ä€𝄞 日本語",
    'it\'s "quoted" `so`',
    "../../etc/passwd",
    "100%_of\\them",
    "' OR 1=1 --",
    "x') OR true OR (id = 'x",
    "NULL",
    "$1 %s {tenant} :name ?",
    " leading and trailing ",
    "line\nbreak\ttab",
)


class TestNames:
    """Tenants, spaces, ids, keys and texts mean nothing to a store: none is part of a statement or a path."""

    async def test_tenants_of_any_name_have_only_their_own_rows(self, store: VectorStore) -> None:
        vectors = clustered(len(HOSTILE), BOOKS.dim)
        named = [replace(BOOKS, tenant=name) for name in HOSTILE]
        for collection, vector in zip(named, vectors, strict=True):
            await store.ensure_collection(collection)
            await store.upsert(
                collection, rows([f"of {collection.tenant}", "shared"], np.stack([vector] * 2))
            )
        for collection, vector in zip(named, vectors, strict=True):
            hits = await store.query(collection, vector, limit=9)
            assert {hit.id for hit in hits} == {f"of {collection.tenant}", "shared"}
            assert await store.count(collection) == 2
        await store.drop_collection(named[0])
        await store.delete(named[1], ["shared"])
        assert [await store.count(collection) for collection in named] == [0, 1] + [2] * (len(named) - 2)

    async def test_spaces_of_any_name_are_spaces_of_their_own(self, store: VectorStore) -> None:
        vectors = clustered(len(HOSTILE), BOOKS.dim)
        for name, vector in zip(HOSTILE, vectors, strict=True):
            await store.ensure_collection(replace(BOOKS, space=name))
            await store.upsert(replace(BOOKS, space=name), rows([f"in {name}"], vector[None]))
        for name in HOSTILE:
            found = [page async for page, _ in store.scan(replace(BOOKS, space=name))]
            assert found == [[f"in {name}"]]

    async def test_ids_keys_and_values_of_any_text_are_found_as_they_were_written(
        self, store: VectorStore
    ) -> None:
        ids = [f"{text}." for text in HOSTILE]  # no store needs an empty id
        await store.upsert(
            BOOKS,
            VectorRows(
                ids, clustered(len(ids), BOOKS.dim), [{"name": text, "n": 1} for text in HOSTILE], [*HOSTILE]
            ),
        )
        found, _ = await store.vectors(BOOKS, ids)
        assert set(found) == set(ids)
        named = await store.ids_with(BOOKS, "name", [*HOSTILE, "another"])
        assert named == {text: [f"{text}."] for text in HOSTILE}
        await store.update_metadata(BOOKS, ids[2:4], [{"name": "new", "o'k": "'"}] * 2)
        assert {text: set(rows) for text, rows in (await store.ids_with(BOOKS, "name", ["new"])).items()} == {
            "new": set(ids[2:4])
        }
        assert set((await store.ids_with(BOOKS, "o'k", ["'"]))["'"]) == set(ids[2:4])
        await store.delete(BOOKS, ids[4:])
        assert await store.count(BOOKS) == 4


class TestManyTenants:
    async def test_a_hundred_tenants_written_at_the_same_time_have_only_their_own_rows(
        self, store: VectorStore
    ) -> None:
        await many_tenants(store, 100)

    @pytest.mark.slow
    async def test_so_have_thousands(self, store: VectorStore) -> None:
        await many_tenants(store, 3_000)


async def many_tenants(store: VectorStore, tenants: int) -> None:
    """Each has two rows, of ids that all have, and its own vectors."""
    vectors = clustered(2 * tenants, BOOKS.dim)
    named = [replace(BOOKS, tenant=f"tenant {number}") for number in range(tenants)]

    async def write(number: int) -> None:
        await store.ensure_collection(named[number])
        await store.upsert(named[number], rows(["one", "two"], vectors[2 * number : 2 * number + 2]))

    for part in pages(range(tenants), 100):
        await asyncio.gather(*map(write, part))
    await store.drop_collection(named[1])
    assert await store.count(named[1]) == 0
    for number in (0, 2, tenants // 2, tenants - 1):
        hits = await store.query(named[number], vectors[2 * number], limit=9)
        assert [hit.id for hit in hits] == ["one", "two"]
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        found = [page async for page, _ in store.scan(named[number])]
        assert sorted(found[0]) == ["one", "two"]


class TestRecall:
    async def test_a_query_finds_what_brute_force_finds(self, store: VectorStore) -> None:
        """Also in a store that has done its upkeep, and for a tenant that has a small part of the rows."""
        mine, theirs = clustered(500, BOOKS.dim), clustered(4_000, BOOKS.dim, seed=3)
        other = replace(BOOKS, tenant="large")
        await store.ensure_collection(other)
        for start in range(0, 4_000, 1_000):
            part = theirs[start : start + 1_000]
            await store.upsert(other, rows([f"{start + place}" for place in range(1_000)], part))
        await store.upsert(BOOKS, rows([f"{number}" for number in range(500)], mine))
        await tended(store)
        for collection, vectors in ((BOOKS, mine), (other, theirs)):
            assert await recall(store, collection, vectors) >= 0.95

    async def test_a_filter_finds_all_that_it_allows(self, store: VectorStore, place: StorePlace) -> None:
        """SQL applies a filter. Few allowed passages are compared by their vectors, many are looked up."""
        vectors = clustered(1_200, BOOKS.dim)
        made = [Document(f"{n}", f"text {n}", {"share": n / 1_200}) for n in range(1_200)]
        database = Database(place.settings.database_url, synchronous="normal")
        await database.open()
        collection = await store_live(database, store, "filtering", made, vectors)
        await tended(store)
        for exact_scan_rows, least in ((1_200, 1.0), (0, 0.95)):
            searches = NearestPassages(database, store, exact_scan_rows=exact_scan_rows)
            right = 0
            for share in (0.5, 0.05):
                wanted = PassageFilter(where={"share": {"$lt": share}})
                allowed = vectors[: int(share * 1_200)]
                for query in clustered(10, BOOKS.dim, seed=5):
                    found = await searches.find(collection, query, wanted, most=MOST)
                    nearest = np.argsort(-(allowed @ query), kind="stable")[:MOST]
                    right += len({hit.media_id for hit in found.hits} & {f"{n}" for n in nearest})
            assert right >= least * 2 * 10 * MOST
        await database.close()


async def recall(store: VectorStore, collection: TenantSpace, vectors: NDArray[np.float32]) -> float:
    """Of rows whose id is their place in `vectors`: the share of the nearest ten that queries find."""
    right = 0
    queries = clustered(50, BOOKS.dim, seed=9)
    for query in queries:
        hits = await store.query(collection, query, limit=MOST)
        right += len({hit.id for hit in hits} & {f"{n}" for n in np.argsort(-(vectors @ query))[:MOST]})
    return right / (len(queries) * MOST)
