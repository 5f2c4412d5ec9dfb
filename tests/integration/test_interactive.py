"""Texts that are embedded while a caller waits: by the models of this process, and by workers of a fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedfleet.bootstrap import open_front
from embedfleet.clock import ManualClock, SystemClock
from embedfleet.errors import BrokerUnavailable, ModelFailure, ModelUnavailable, SpaceMismatch, UnknownModel
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.interactive.embedder import TextEmbedder
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.interactive.messages import EmbeddingRequest
from embedfleet.interactive.queued import QueuedTextEmbedder
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Broker, Lane
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import Stage
from embedfleet.searching.search import SearchClient, SearchRequest, SearchService
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.opening import open_database
from embedfleet.tokenising import tokenised
from embedfleet.workers.services import Services
from embedfleet.workers.worker import build_embedding_worker
from support.chroma_server import ChromaServer
from support.hangs import HANG_SECONDS
from support.redis_server import RedisServer, redis_settings
from support.system import TENANT, make_settings, running

TEXTS = ["one", "two words", "", "one", "three words here"]


def batch_of(texts: Sequence[str], info: ModelInfo) -> TokenBatch:
    return tokenised(texts, info)


@asynccontextmanager
async def worker_over(broker: Broker, settings: Settings) -> AsyncIterator[None]:
    """One embedding worker that answers requests while the block runs."""
    async with opened_database(settings) as database:
        catalogue = Catalogue(settings.models)
        models = ModelPool(catalogue, settings.models)
        services = Services(broker, database, Metrics(), SystemClock(), settings.worker_pools)
        worker = build_embedding_worker(
            "e", services, models=models, settings=settings, answering=LocalTextEmbedder(catalogue, models)
        )
        stop = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(worker.run(stop))
                try:
                    yield
                finally:
                    stop.set()
        finally:
            await models.close()


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    database = open_database(settings)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def local_embedder(settings: Settings) -> AsyncIterator[LocalTextEmbedder]:
    catalogue = Catalogue(settings.models)
    models = ModelPool(catalogue, settings.models)
    embedder = LocalTextEmbedder(catalogue, models)
    try:
        yield embedder
    finally:
        await embedder.close()
        await models.close()


@asynccontextmanager
async def queued_embedder(settings: Settings, broker: Broker) -> AsyncIterator[QueuedTextEmbedder]:
    embedder = QueuedTextEmbedder(Catalogue(settings.models), broker, SystemClock())
    try:
        yield embedder
    finally:
        await embedder.close()


async def embed(embedder: TextEmbedder, texts: Sequence[str], **more: Any) -> Any:
    info = await embedder.info("stub")
    return await embedder.embed(info, batch_of(texts, info), tenant="acme", **more)


async def depth_is(broker: Broker, holds: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not holds(await broker.depth(Stage.EMBEDDING)):  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_workers_give_the_vectors_of_the_model_and_those_of_each_text_are_its_own(
    settings: Settings, kind: str, request: pytest.FixtureRequest
) -> None:
    async with local_embedder(settings) as local:
        expected = await embed(local, TEXTS)
        alone = [await embed(local, [text]) for text in TEXTS]
    assert expected.vectors.shape == (len(TEXTS), 64)
    assert np.array_equal(expected.vectors, np.concatenate([one.vectors for one in alone]))

    broker: Broker = MemoryBroker()
    waiting: Broker = broker
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        broker = await RedisBroker.open(redis_settings(server.url))
        waiting = await RedisBroker.open(redis_settings(server.url))
    async with worker_over(broker, settings), queued_embedder(settings, waiting) as queued:
        found = await asyncio.gather(*(embed(queued, TEXTS) for _ in range(5)))
        large = await embed(queued, [f"text {n}" for n in range(600)])  # more than one task
        with pytest.raises(UnknownModel):
            await queued.info("no such model")
        info = await queued.info("stub")
        other = ModelInfo(**{f: getattr(info, f) for f in info.__slots__} | {"space": "another"})
        with pytest.raises(SpaceMismatch):
            await queued.embed(other, batch_of(["x"], info), tenant="acme")
    await waiting.close()
    await broker.close()
    for one in found:
        assert np.array_equal(one.vectors, expected.vectors)
        assert not one.failed
        assert one.queue_seconds >= 0
        assert one.inference_seconds > 0
    async with local_embedder(settings) as local:
        assert np.array_equal(large.vectors, (await embed(local, [f"text {n}" for n in range(600)])).vectors)


async def test_a_caller_whose_time_is_over_is_told_and_leaves_no_task(settings: Settings) -> None:
    broker = MemoryBroker()
    async with queued_embedder(settings, broker) as queued:
        with pytest.raises(ModelUnavailable, match="no embedding worker gave vectors of model `stub` in 0"):
            await embed(queued, ["x"] * 300, timeout_seconds=0.01)
        await depth_is(broker, lambda depth: depth.ready == 0 and depth.done == 2)


async def test_a_caller_that_is_cancelled_leaves_no_task_and_the_model_does_nothing(
    settings: Settings,
) -> None:
    broker = MemoryBroker()
    async with queued_embedder(settings, broker) as queued:
        asking = asyncio.create_task(embed(queued, TEXTS))
        await depth_is(broker, lambda depth: depth.ready == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await depth_is(broker, lambda depth: depth.ready == 0 and depth.done == 1)


async def test_a_task_of_a_worker_that_died_goes_to_another_one(settings: Settings) -> None:
    clock = ManualClock()
    broker = MemoryBroker(clock=clock)
    async with queued_embedder(settings, broker) as queued:
        asking = asyncio.create_task(embed(queued, TEXTS))
        await depth_is(broker, lambda depth: depth.ready == 1)
        await broker.claim(
            Stage.EMBEDDING, worker="dies", max_tasks=9, max_cost=999, lease_seconds=10, lane=Lane.INTERACTIVE
        )
        clock.advance(10)
        assert await broker.reap_expired(Stage.EMBEDDING) == 1
        async with worker_over(broker, settings):
            assert len((await asking).vectors) == len(TEXTS)


async def test_a_request_that_kills_its_workers_is_answered_with_a_failure(settings: Settings) -> None:
    clock = ManualClock()
    broker = MemoryBroker(clock=clock)
    async with queued_embedder(settings, broker) as queued:
        asking = asyncio.create_task(embed(queued, TEXTS))
        await depth_is(broker, lambda depth: depth.ready == 1)
        for _ in range(settings.worker_pools.embedding.max_attempts):
            await broker.claim(Stage.EMBEDDING, worker="dies", max_tasks=9, max_cost=9, lease_seconds=10)
            clock.advance(10)
            await broker.reap_expired(Stage.EMBEDDING)
        async with worker_over(broker, settings):
            with pytest.raises(ModelFailure, match="died"):
                await asking


async def test_an_old_request_is_dropped_without_the_model(settings: Settings) -> None:
    """As after the death of the process that asked: nothing has withdrawn the task."""
    broker = MemoryBroker()
    async with queued_embedder(settings, broker) as queued:
        info = await queued.info("stub")
        [task] = queued._tasks("request", info, batch_of(["x"], info), "acme", wanted_until=1_000.0)
        await broker.enqueue(Stage.EMBEDDING, [task])
        async with worker_over(broker, settings):
            await depth_is(broker, lambda depth: depth.done == 1)
        assert EmbeddingRequest.decode(task.payload).mailbox == broker.mailbox
        assert await broker.take_answers(Stage.EMBEDDING, timeout_seconds=0) == []


async def test_callers_hear_at_once_that_the_broker_is_away(settings: Settings) -> None:
    broker = MemoryBroker()
    async with queued_embedder(settings, broker) as queued:
        asking = asyncio.create_task(embed(queued, TEXTS))
        await depth_is(broker, lambda depth: depth.ready == 1)
        await broker.close()
        with pytest.raises(BrokerUnavailable):
            await asking


async def test_documents_do_not_hold_up_a_request(tmp_path: Path) -> None:
    """While a bulk claim is in hand in every loop for documents, a request is answered."""
    settings = make_settings(tmp_path)
    broker = MemoryBroker()
    async with worker_over(broker, settings), queued_embedder(settings, broker) as queued:
        held = asyncio.Event()
        broker_depth = broker.depth

        async def storage_is_stuck(stage: Stage) -> Any:
            if stage is Stage.STORAGE:  # the loops for documents look for room there
                await held.wait()
            return await broker_depth(stage)

        broker.depth = storage_is_stuck  # type: ignore[method-assign]
        assert len((await embed(queued, TEXTS)).vectors) == len(TEXTS)
        held.set()


async def test_callers_that_wait_together_share_a_call_of_the_model(settings: Settings) -> None:
    async with local_embedder(settings) as local:
        await embed(local, ["loads the model"])
        [gathering] = local._gatherings.values()
        calls: list[int] = []
        call = gathering._call

        async def counted(runner: Any, portions: Any) -> bool:
            calls.append(len(portions))
            return await call(runner, portions)

        gathering._call = counted  # type: ignore[method-assign]
        await asyncio.gather(*(embed(local, [f"text {n}"]) for n in range(40)))
        assert sum(calls) == 40
        assert len(calls) < 20


async def test_a_process_without_models_searches_in_a_fleet(
    tmp_path: Path,
    redis_server: RedisServer,
    chroma_server: ChromaServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(SearchClient, "search")  # the way through SQL and the leader is not taken
    settings = make_settings(
        tmp_path,
        redis={"url": redis_server.url},
        vector_store={"url": chroma_server.url},
        orchestrator={"launcher": "inline"},
    )
    async with running(settings) as system, open_front(settings) as front:
        await system.ingest("a", "The port opens at six in the morning.")
        hits = await front.search.search(TENANT, SearchRequest(query="when does the port open"))
        assert [hit.media_id for hit in hits] == ["a"]
        assert isinstance(front.search, SearchService)
        assert isinstance(front.embedder, QueuedTextEmbedder)
        served = await front.jobs.of(TENANT).search(SearchRequest(query="The port opens at six"))
        assert served == await system.system.search.search(
            TENANT, SearchRequest(query="The port opens at six")
        )
