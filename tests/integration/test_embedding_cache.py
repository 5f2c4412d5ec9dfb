"""A text that was embedded once costs no model again, as long as a document that used it is there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select, update

from embedfleet.bootstrap import open_guest
from embedfleet.leader.cache_trimming import CacheTrimming, surplus
from embedfleet.records import collections, embedding_cache
from embedfleet.records.collections import Collection
from embedfleet.records.embedding_cache import CacheSize
from embedfleet.records.scope import EveryTenant
from embedfleet.settings import EmbeddingCacheSettings, Settings
from embedfleet.sql import tables
from support.databases import on_both_databases
from support.system import ONE_EACH, TENANT, Configure, Running, paragraphs, running, take_ledger

TEXT = paragraphs("text", 12)


async def cost(fleet: Running, media_id: str, content: str = TEXT, tenant: str = TENANT) -> float:
    """How many chunks a model embeds for this. The job says the same."""
    before = fleet.embedded()
    job = await fleet.ingest(media_id, content, chunking_config=ONE_EACH, user_id=tenant)
    done = job.progress
    assert done.chunks_embedded - done.chunks_reused == fleet.embedded() - before
    await fleet.idle()  # the storage worker may have ended the job before the cache was written
    return fleet.embedded() - before


async def remove(fleet: Running, media_id: str) -> None:
    await fleet.jobs.of(TENANT).delete_document(media_id=media_id)
    await fleet.settled()


async def cached(fleet: Running) -> int:
    count = select(func.count()).select_from(tables.embeddings)
    return await fleet.system.database.read(lambda conn: int(conn.execute(count).scalar_one()))


@on_both_databases
async def test_text_that_is_copied_moved_or_comes_back_costs_no_model(settings: Settings) -> None:
    async with running(settings) as fleet:
        assert await cost(fleet, "1") == 12
        assert await cost(fleet, "copy") == 0
        await remove(fleet, "1")
        assert await cost(fleet, "1") == 0, "its copy still has the text"
        await remove(fleet, "copy")
        assert await cost(fleet, "1", paragraphs("other", 3)) == 3
        assert await cost(fleet, "1") == 0, "an old version that comes back"
        assert await cost(fleet, "reordered", "\n\n".join(reversed(TEXT.split("\n\n")))) == 0
        (await take_ledger(fleet.system)).assert_exact()
        metrics = fleet.system.metrics.registry
        assert metrics.get_sample_value("embedding_cache_hits_total") == 48
        assert metrics.get_sample_value("embedding_cache_misses_total") == 15


@on_both_databases
async def test_a_deleted_document_takes_its_vectors_along(settings: Settings) -> None:
    async with running(settings) as fleet:
        await cost(fleet, "1")
        await cost(fleet, "2", paragraphs("other", 3))
        assert await cached(fleet) == 15
        await remove(fleet, "1")
        assert await cached(fleet) == 3
        assert await cost(fleet, "1") == 12


async def test_one_tenants_vectors_are_never_anothers(settings: Settings) -> None:
    async with running(settings) as fleet:
        assert await cost(fleet, "1") == 12
        assert await cost(fleet, "1", tenant="bob") == 12


async def test_with_the_cache_off_nothing_is_read_or_written(configure: Configure) -> None:
    async with running(configure()) as fleet:
        await cost(fleet, "1")
    async with running(configure(embedding_cache={"enabled": False})) as fleet:
        assert await cost(fleet, "copy") == 12
        assert await cost(fleet, "2", paragraphs("other", 3)) == 3
        assert await cached(fleet) == 12


async def test_cached_and_fresh_vectors_of_one_batch_go_to_their_own_chunks(settings: Settings) -> None:
    pairs = zip(paragraphs("new", 12).split("\n\n"), TEXT.split("\n\n"), strict=True)
    mixed = "\n\n".join(part for pair in pairs for part in pair)
    async with running(settings) as fleet:
        await cost(fleet, "1")
        assert await cost(fleet, "mixed", mixed) == 12
        found = await vectors_by_text(fleet)
    async with running(settings.model_copy(update={"data_dir": settings.data_dir / "fresh"})) as fleet:
        await cost(fleet, "mixed", mixed)
        expected = await vectors_by_text(fleet)
    assert found.keys() == expected.keys()
    assert len(found) == 24
    for chunk_id, vector in expected.items():
        np.testing.assert_allclose(found[chunk_id], vector, atol=1e-6)


async def vectors_by_text(fleet: Running) -> dict[str, NDArray[np.float32]]:
    """Of the document `mixed`, whose chunks have the same ids in every system."""
    query = (
        select(tables.vectors.c.chunk_id)
        .join(tables.documents, tables.documents.c.document_id == tables.vectors.c.document_id)
        .where(tables.documents.c.media_id == "mixed")
    )

    def look(conn: Connection) -> tuple[Collection, list[str]]:
        (collection,) = collections.within(conn, EveryTenant())
        return collection, [value.hex() for value in conn.execute(query).scalars()]

    collection, ids = await fleet.system.database.read(look)
    found, vectors = await fleet.system.store.vectors(collection, ids)
    return dict(zip(found, vectors, strict=True))


async def test_a_cache_over_its_size_loses_what_was_not_used_for_longest(settings: Settings) -> None:
    async with running(settings) as fleet:
        await cost(fleet, "old", paragraphs("old", 10))
        old = update(tables.embeddings).values(used_on=1)
        await fleet.system.database.write(lambda conn: conn.execute(old))
        await cost(fleet, "new", paragraphs("new", 10))
    async with open_guest(settings) as guest:
        (size,) = await guest.database.read(embedding_cache.sizes)
        assert (size.rows, size.row_bytes) == (20, 256)
        trimming = CacheTrimming(guest.database, max_mb_per_tenant=EmbeddingCacheSettings().max_mb_per_tenant)
        assert await trimming.trim() == 0
        await guest.database.write(
            lambda conn: embedding_cache.drop_oldest(conn, size.collection_id, surplus([size], 12 * 256)[1])
        )
        days = select(tables.embeddings.c.used_on)
        left = await guest.database.read(lambda conn: list(conn.execute(days).scalars()))
    assert len(left) == 10
    assert 1 not in left


async def test_the_use_of_a_cached_vector_is_recorded_once_a_day(settings: Settings) -> None:
    async with running(settings) as fleet:
        await cost(fleet, "1")
        await fleet.system.database.write(
            lambda conn: conn.execute(update(tables.embeddings).values(used_on=1))
        )
        await cost(fleet, "copy")
        days = select(tables.embeddings.c.used_on).distinct()
        (day,) = await fleet.system.database.read(lambda conn: list(conn.execute(days).scalars()))
        assert day > 20_000


def test_the_surplus_is_shared_by_a_tenants_collections_and_leaves_nine_tenths() -> None:
    found = [CacheSize(1, "a", 1000, 100), CacheSize(2, "a", 3000, 100), CacheSize(3, "b", 1000, 100)]
    dropped = surplus(found, 200_000)
    assert dropped == {1: 550, 2: 1650}
    assert surplus(found, 400_000) == {}
