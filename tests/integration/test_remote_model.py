"""Documents embedded by a server over real HTTP: stored once, with the right vectors, whatever it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.bootstrap import open_repair
from embedfleet.errors import ModelUnavailable
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.records import collections
from embedfleet.records.scope import EveryTenant
from embedfleet.repair import expected
from embedfleet.repair.verification import Sampling
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from support.embedding_server import EmbeddingServer, drops, says, serves, vectors_of
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, TENANT, Configure, Running, paragraphs, running, take_ledger

Far = Callable[..., Settings]


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as server:
        yield server


@pytest.fixture
def far(configure: Configure, server: EmbeddingServer) -> Far:
    """Settings of a system whose model is the server; a task that fails counted is given up at once."""

    def settings(**remote: Any) -> Settings:
        entry = server.entry(remote={"batch_texts": 4, "concurrency": 3} | remote)
        return configure(
            # Known texts would be requests, too, and these tests count them.
            models={"default": "far", "catalogue": {"far": entry}, "canary_every_batches": 0},
            worker_pools={"embedding": {"max_attempts": 1}},
        )

    return settings


async def stored(fleet: Running) -> dict[str, NDArray[np.float32]]:
    """The vector of each text, with what is embedded before it."""
    database, store = fleet.system.database, fleet.system.store
    (collection,) = await database.read(partial(collections.within, scope=EveryTenant()))
    by_id = {
        row_id: vector
        async for ids, vectors in store.scan(collection)
        for row_id, vector in zip(ids, vectors, strict=True)
    }
    targets = await database.read(lambda conn: expected.targets(conn, list(by_id)))
    return {target.embedded: by_id[target.chunk_id] for target in targets}


def assert_right(found: dict[str, NDArray[np.float32]]) -> None:
    texts = list(found)
    np.testing.assert_allclose(np.stack([found[text] for text in texts]), vectors_of(texts), atol=1e-6)


async def arrived(server: EmbeddingServer) -> None:
    assert await asyncio.to_thread(server.arrived.acquire, timeout=HANG_SECONDS)


async def test_all_is_stored_once_and_right_though_the_server_is_busy_breaks_and_hangs_up(
    far: Far, server: EmbeddingServer
) -> None:
    ill = [says(429, retry_after="0.2"), says(500), drops, says(429), says(503, retry_after="0.1"), says(502)]
    server.script += [*ill, serves, *ill, serves, *[says(500)] * 4]
    async with running(far()) as fleet:
        jobs = [
            await fleet.submit(str(n), paragraphs(f"text{n}", 20), chunking_config=ONE_EACH) for n in range(3)
        ]
        for job in jobs:
            info = await fleet.jobs.wait(job, timeout_seconds=HANG_SECONDS)
            assert (info.status, info.progress.chunks_dead) == (JobStatus.COMPLETED, 0)
        assert not server.script, "it has recovered from all of it"
        found = await stored(fleet)
        assert len(found) == 60
        assert_right(found)
        (await take_ledger(fleet.system)).assert_exact()

        # And it goes as fast as before: as many requests at once as the settings allow.
        await fleet.ingest("healthy", paragraphs("healthy", 60), chunking_config=ONE_EACH)
        while server.arrived.acquire(blocking=False):
            pass
        server.gate.clear()
        job = await fleet.submit("fast", paragraphs("fast", 60), chunking_config=ONE_EACH)
        for _ in range(3):
            await arrived(server)
        assert server.most_at_once == 3
        server.gate.set()
        assert (await fleet.jobs.wait(job, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED


async def test_tasks_wait_for_a_server_that_denies_uncounted_and_a_search_says_why(
    far: Far, server: EmbeddingServer
) -> None:
    async with running(far()) as fleet:
        await fleet.ingest("0", paragraphs("there", 1))  # without a live document a search asks no model
        server.usual = says(401)
        denied = len(server.asked)
        job = await fleet.submit("1", paragraphs("text", 8), chunking_config=ONE_EACH)
        while len(server.asked) < denied + 3:
            await arrived(server)
        assert (await fleet.system.broker.depth(Stage.EMBEDDING)).dead == 0
        with pytest.raises(ModelUnavailable, match=r"answered 401: check `remote.api_key`"):
            await fleet.system.search.search(TENANT, SearchRequest(query="word3"))
        server.usual = serves
        info = await fleet.jobs.wait(job, timeout_seconds=HANG_SECONDS)
        assert (info.status, info.progress.chunks_dead) == (JobStatus.COMPLETED, 0)


async def test_what_the_server_did_before_it_was_gone_is_not_asked_for_again(
    far: Far, server: EmbeddingServer
) -> None:
    server.script += [serves] * 5 + [says(402, "no credit left")]
    async with running(far(concurrency=1)) as fleet:
        info = await fleet.ingest("1", paragraphs("text", 40), chunking_config=ONE_EACH)
        assert info.status is JobStatus.COMPLETED
        assert_right(await stored(fleet))
    (denied,) = [asked for place, asked in enumerate(server.asked) if place == 5]
    paid = [text for asked in server.asked if asked is not denied for text in asked.texts]
    assert len(paid) == len(set(paid)) == 40


async def test_a_query_goes_before_bulk_work(far: Far, server: EmbeddingServer) -> None:
    async with running(far(concurrency=1)) as fleet:
        await fleet.ingest("1", paragraphs("text", 4), chunking_config=ONE_EACH)
        while server.arrived.acquire(blocking=False):
            pass
        server.gate.clear()
        server.asked.clear()
        job = await fleet.submit("2", paragraphs("more", 40), chunking_config=ONE_EACH)
        await arrived(server)
        search = asyncio.create_task(fleet.system.search.search(TENANT, SearchRequest(query="what is it?")))
        await until_it_is_at_the_door(fleet)
        server.gate.set()
        await search
        await fleet.jobs.wait(job, timeout_seconds=HANG_SECONDS)
    assert list(server.asked[1].texts) == ["what is it?"]


async def until_it_is_at_the_door(fleet: Running) -> None:
    runner = await fleet.system.models.get("far")
    async with asyncio.timeout(HANG_SECONDS):
        while not runner._inbox._interactive:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


async def test_a_text_the_server_refuses_is_a_dead_letter_with_the_reason_and_without_the_text(
    far: Far, server: EmbeddingServer
) -> None:
    refuses = says(400, "the input is longer than 512 tokens")
    server.usual = lambda asked: (
        refuses(asked) if any("paragraph 5" in text for text in asked.texts) else serves(asked)
    )
    async with running(far()) as fleet:
        info = await fleet.ingest("1", paragraphs("text", 12), chunking_config=ONE_EACH)
        assert info.status is JobStatus.COMPLETED_WITH_ERRORS
        (letter,) = await fleet.jobs.of(TENANT).list_dead_letters()
        found = await stored(fleet)
    assert letter.reason.endswith("answered 400 (the input is longer than 512 tokens)")
    assert len(found) == 11
    assert_right(found)


async def test_a_server_that_reads_texts_is_sent_what_stands_above_them_too(
    far: Far, server: EmbeddingServer
) -> None:
    async with running(far()) as fleet:
        await fleet.ingest("1", paragraphs("text", 3), title="Pumps", chunking_config=ONE_EACH)
        found = await stored(fleet)
    assert len(found) == 3
    assert all(text.startswith("Pumps\n\ntext paragraph") for text in found)
    assert_right(found)


async def test_texts_that_only_the_server_tells_apart_have_vectors_of_their_own_from_the_cache_too(
    far: Far, server: EmbeddingServer
) -> None:
    """The tokenizer that sizes the chunks knows no capitals; the server does."""
    text = paragraphs("text", 6)
    settings = far()
    async with running(settings) as fleet:
        await fleet.ingest("1", text, chunking_config=ONE_EACH)
        await fleet.ingest("2", text.upper(), chunking_config=ONE_EACH)
        await fleet.idle()
        assert fleet.embedded() == 12
        found = await stored(fleet)
        assert len(found) == 12
        assert_right(found)
        await fleet.ingest("copy", text.upper(), chunking_config=ONE_EACH)
        assert fleet.embedded() == 12, "known by their text"
    every = Sampling(1.0, seed=1)
    async with open_repair(settings, purpose="test", scope=EveryTenant(), sampling=every) as system:
        checked = await system.verification.check(system.collections[0])
        assert (checked.count, checked.sampled, system.truth.embedded) == (0, 18, 18)
    async with open_repair(settings, purpose="test", scope=EveryTenant(), empty=True) as system:
        missing = await system.verification.check(system.collections[0])
        assert await system.rebuilding.mend(missing) == 18
        assert (system.truth.embedded, system.truth.cached) == (0, 18)
    async with running(settings) as fleet:
        assert_right(await stored(fleet))
