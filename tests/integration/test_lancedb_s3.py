"""LanceDB in a bucket of S3: processes that write at once, upkeep, a server that is away, a whole system.

What all stores promise is tested in `tests/conformance/test_vector_store*.py`, where one place is on S3.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.one_search import search_once
from embedfleet.queue_schemas import ReceiptState
from embedfleet.searching.search import SearchRequest
from embedfleet.vectors.lancedb.store import LanceVectorStore
from embedfleet.vectors.lancedb.upkeep import UpkeepLimits
from embedfleet.vectors.port import StoreDebt, TenantSpace, VectorRows
from support.clusters import clustered
from support.hangs import HANG_SECONDS
from support.s3_server import S3Bucket, S3Server
from support.store_writer import WRITTEN, batch_ids, batch_vectors
from support.stores import StorePlace, overrides, text_of_objects
from support.system import ONE_EACH, TENANT, Configure, paragraphs, running, take_ledger

DIM = 32
BOOKS = TenantSpace("acme", "books", DIM)
LIMITS = UpkeepLimits(
    rows_of_a_file=1_000, surplus_files=8, index_from_rows=1_000, partition_rows=128, searched_rows=1_024
)


def rows(ids: list[str], text: str = "text") -> VectorRows:
    return VectorRows(ids, clustered(len(ids), DIM), [{"job_id": "j"}] * len(ids), [text] * len(ids))


@pytest.mark.slow
async def test_what_two_processes_write_at_once_is_there_once_though_both_are_killed(
    s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    """Both write the same batches, and each is killed in the midst of one."""
    place = StorePlace(overrides(tmp_path, kind="lancedb", path=s3_bucket.url), None)
    with place.killed_writer() as one, place.killed_writer() as other:
        acknowledged = {*islice(one, 20), *islice(other, 20)}
    store = await place.open()
    for number in acknowledged:
        ids, vectors = await store.vectors(WRITTEN, batch_ids(number))
        found = dict(zip(ids, vectors, strict=True))
        in_order = np.stack([found[row_id] for row_id in batch_ids(number)])
        np.testing.assert_allclose(in_order, batch_vectors(number), rtol=0, atol=1e-6)
    seen = [row_id async for page, _ in store.scan(WRITTEN) for row_id in page]
    assert len(seen) == len(set(seen)) == await store.count(WRITTEN)
    await store.close()


@pytest.mark.slow
async def test_files_are_merged_and_indexed_and_then_forget_a_deleted_text(s3_bucket: S3Bucket) -> None:
    store = await LanceVectorStore.open(s3_bucket.url, shared=True, limits=LIMITS)
    await store.ensure_collection(BOOKS)
    vectors = clustered(1_500, DIM)
    for start in range(0, 1_500, 100):
        ids = [f"{n}" for n in range(start, start + 100)]
        texts = [f"text {row_id}." for row_id in ids]
        await store.upsert(
            BOOKS, VectorRows(ids, vectors[start : start + 100], [{"job_id": "j"}] * 100, texts)
        )
    while await store.debt() != StoreDebt():
        await store.tend()
    (table,) = store._tables.values()
    state = table.state()
    assert state is not None
    assert len(state.files) <= 2, "of 15 commits"
    assert state.trained_rows is not None
    assert [hit.id for hit in await store.query(BOOKS, vectors[7], limit=1)] == ["7"]
    await store.delete(BOOKS, ["7"])
    assert "text 7." in text_of_objects(s3_bucket)
    await store.forget_deleted(BOOKS)
    held = text_of_objects(s3_bucket)
    assert "text 7." not in held
    assert "text 8." in held
    assert await store.count(BOOKS) == 1_499
    assert [hit.id for hit in await store.query(BOOKS, vectors[8], limit=1)] == ["8"]
    await store.close()


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """May be stopped. A call fails at once: how often Lance asks again is the user's to say."""
    with S3Server(tmp_path / "s3") as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OBJECT_STORE_CLIENT_MAX_RETRIES", "0")
        yield server


@pytest.mark.parametrize(
    "away", [pytest.param("the server is stopped", marks=pytest.mark.slow), "the bucket is another one"]
)
async def test_a_bucket_that_is_away_is_never_an_empty_one(own_server: S3Server, away: str) -> None:
    bucket = own_server.bucket()
    store = await LanceVectorStore.open(bucket.url, shared=True)
    await store.claim_mark("ours")
    store.expect_mark()
    await store.ensure_collection(BOOKS)
    await store.upsert(BOOKS, rows(["a"]))
    if away == "the server is stopped":
        own_server.kill()
    else:
        own_server.restart()
        bucket.create()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.count(BOOKS),
        lambda: store.query(BOOKS, clustered(1, DIM)[0], limit=1),
        lambda: store.delete(BOOKS, ["a"]),
        lambda: store.forget_deleted(BOOKS),
        lambda: store.upsert(BOOKS, rows(["b"])),
        lambda: store.ensure_collection(BOOKS),
        store.debt,
    ]
    for call in calls:
        with pytest.raises(VectorStoreUnavailable):
            await call()
    await store.close()


@pytest.mark.slow
async def test_a_bucket_that_does_not_exist_is_said_so(own_server: S3Server) -> None:
    store = await LanceVectorStore.open("s3://no-such-bucket/vectors", shared=True)
    with pytest.raises(VectorStoreUnavailable, match="NoSuchBucket"):
        await store.claim_mark("ours")
    await store.close()


async def test_documents_are_ingested_found_and_deleted_by_a_system_on_s3(
    configure: Configure, s3_bucket: S3Bucket
) -> None:
    settings = configure(vector_store={"kind": "lancedb", "path": s3_bucket.url})
    everything = SearchRequest(query="anything", limit=100)
    async with running(settings) as fleet:
        for number in range(3):
            await fleet.ingest(f"book{number}", paragraphs(f"book{number}", 4), chunking_config=ONE_EACH)
        await fleet.ingest("ours", "A secret text.")
        assert "A secret text." in text_of_objects(s3_bucket)
        receipt_id = await fleet.jobs.of(TENANT).delete_document(media_id="ours")
        assert receipt_id is not None
        async with asyncio.timeout(HANG_SECONDS):
            receipt = await fleet.jobs.of(TENANT).searched_receipt(receipt_id)
        assert receipt.state is ReceiptState.ERASED
        assert "keeps versions" in receipt.beyond["vector_store"]
        (await take_ledger(fleet.system)).assert_exact()
    held = text_of_objects(s3_bucket)
    assert "A secret text." not in held
    assert "book2" in held
    found = await search_once(settings, TENANT, everything)
    assert Counter(hit.media_id for hit in found) == {f"book{n}": 4 for n in range(3)}


@pytest.mark.slow
async def test_a_deletion_waits_for_a_server_that_is_away(configure: Configure, own_server: S3Server) -> None:
    bucket = own_server.bucket()
    settings = configure(vector_store={"kind": "lancedb", "path": bucket.url})
    async with running(settings) as fleet:
        await fleet.ingest("ours", "A secret text.")
        objects = bucket.objects()
        own_server.kill()
        receipt_id = await fleet.delete_while_the_store_is_away("ours")
        own_server.start()
        bucket.create()
        for key, content in objects.items():
            bucket.put(key, content)
        async with asyncio.timeout(HANG_SECONDS):
            receipt = await fleet.jobs.of(TENANT).searched_receipt(receipt_id)
    assert receipt.state is ReceiptState.ERASED
    assert "A secret text." not in text_of_objects(bucket)
