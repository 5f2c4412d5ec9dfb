"""The oracle is believed because it was lied to: each test breaks one step, runs, and the oracle says so."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chaos.inputs import Document, InputLedger, expect
from chaos.oracle import Finding, Kind
from sqlalchemy import Connection, delete, update

from chaos import oracle
from embedfleet.clock import ManualClock
from embedfleet.queue.broker import Broker, Lease
from embedfleet.queue.keys import stage_key
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.records import batches, identity, job_completion, jobs
from embedfleet.records.batches import StoredBatch
from embedfleet.settings import Settings
from embedfleet.sql import tables
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.chroma.layout import collection_name
from embedfleet.vectors.port import CollectionKey, VectorRows, VectorStore
from embedfleet.workers import cutting
from embedfleet.workers.base_worker import Done, StageLoop
from support.hangs import HANG_SECONDS
from support.redis_server import RedisServer, redis_settings
from support.system import Configure, Running, paragraphs, running

CHUNKS = 12


@pytest.fixture
def inputs(tmp_path: Path) -> InputLedger:
    return InputLedger(tmp_path / "inputs.jsonl")


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure(chunking={"batch_chunks": 4})


async def findings_of(
    settings: Settings,
    inputs: InputLedger,
    *,
    broker: Broker | None = None,
    store: VectorStore | None = None,
    then: Callable[[Running], Awaitable[None]] | None = None,
    wait: Callable[[Running], Awaitable[None]] = Running.idle,
) -> list[Finding]:
    """Two documents through a whole system, then `then`; what the oracle says."""
    async with running(settings, broker=broker, store=store) as fleet:
        job_ids = await inputs.submit_documents(fleet.jobs, "doc", 2, chunks=CHUNKS)
        for job_id in job_ids:
            await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        await wait(fleet)
        if then is not None:
            await then(fleet)
        system = fleet.system
        return await oracle.examine(
            inputs, database=system.database, store=system.store, broker=system.broker
        )


async def at_once(fleet: Running) -> None:
    return


def kinds(findings: Sequence[Finding]) -> set[Kind]:
    return {finding.kind for finding in findings}


async def test_a_system_that_is_not_broken_has_no_findings(settings: Settings, inputs: InputLedger) -> None:
    assert await findings_of(settings, inputs) == []
    assert inputs.chunks == 2 * CHUNKS


async def test_the_ledger_on_disk_is_the_ledger(settings: Settings, inputs: InputLedger) -> None:
    await findings_of(settings, inputs)
    again = InputLedger(inputs.path)
    assert (again.documents, again.jobs) == (inputs.documents, inputs.jobs)


# --- broken steps ---


async def test_an_ack_before_the_commit_loses_what_the_crash_in_between_takes(
    settings: Settings, inputs: InputLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = StageLoop._process
    crashed = asyncio.Event()

    async def ack_first(self: StageLoop, leases: Sequence[Lease], done: Done) -> Any:
        if self.stage is Stage.STORAGE and not crashed.is_set():
            crashed.set()
            await self._broker.ack(leases)
            return {}  # the crash: what it was about to commit is gone, and the broker thinks it is done
        return await process(self, leases, done)

    monkeypatch.setattr(StageLoop, "_process", ack_first)
    async with running(settings) as fleet:
        await inputs.submit_documents(fleet.jobs, "doc", 2, chunks=CHUNKS)
        await crashed.wait()
        await fleet.eventually(lambda depths: depths[Stage.CHUNKING].done == 2)
        await fleet.idle()
        system = fleet.system
        findings = await oracle.examine(
            inputs, database=system.database, store=system.store, broker=system.broker
        )
    assert {Kind.UNFINISHED, Kind.LOST} <= kinds(findings)
    assert any("is still" in str(finding) for finding in findings)


class RandomIds(identity.ChunkIds):
    """Not derived from content: another run makes other ids."""

    runs = 0

    def __init__(self, document: str, space: str) -> None:
        RandomIds.runs += 1
        super().__init__(document, f"{space} run {RandomIds.runs}")


async def test_ids_that_are_not_derived_from_content_are_lost_and_surplus(
    settings: Settings, inputs: InputLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "ChunkIds", RandomIds)
    findings = await findings_of(settings, inputs)
    assert {Kind.LOST, Kind.SURPLUS, Kind.WRONG} <= kinds(findings)
    lost = [finding for finding in findings if "vector store" in finding.line and finding.kind is Kind.LOST]
    assert len(lost) == 2 * CHUNKS


class TwiceBroker(MemoryBroker):
    """Every storage task is delivered again right before its ack."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._moved = clock
        self._again: set[str] = set()

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        first_time = {
            lease.task.id
            for lease in leases
            if lease.stage is Stage.STORAGE and lease.task.id not in self._again
        }
        if first_time:
            self._again |= first_time
            self._moved.advance(3600)
            await self.reap_expired(Stage.STORAGE)
        return await super().ack(leases)


async def test_a_completion_counted_beside_sql_comes_early_when_tasks_are_delivered_twice(
    configure: Configure, inputs: InputLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter: Counter[str] = Counter()

    def count_down(conn: Connection, stored: Sequence[StoredBatch], now: float) -> set[tuple[str, int]]:
        """As `DECR` in Redis would: whoever comes, comes."""
        counter.update(batch.job_id for batch in stored)
        return {(batch.job_id, batch.ordinal) for batch in stored}

    def complete(conn: Connection, job_ids: Sequence[str], now: float) -> dict[str, JobStatus]:
        finished = {}
        for job_id, job in jobs.get_many(conn, job_ids).items():
            if job.sealed and counter[job_id] >= job.batches_total:
                job_completion.finish(conn, [job_id], JobStatus.COMPLETED, reason="", now=now)
                finished[job_id] = JobStatus.COMPLETED
        return finished

    monkeypatch.setattr(batches, "record_stored", count_down)
    monkeypatch.setattr(job_completion, "complete_done", complete)
    patient = {stage.value: {"max_attempts": 1000} for stage in Stage}
    settings = configure(chunking={"batch_chunks": 4}, worker_pools=patient)
    findings = await findings_of(settings, inputs, broker=TwiceBroker(ManualClock()))
    assert any("was completed early" in finding.line for finding in findings), findings


class TrustingBroker(MemoryBroker):
    """Without fences: whoever acks is believed, although the task has another holder."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._moved = clock
        self.stale_acks = 0

    async def expire_and_ack(self, lease: Lease) -> None:
        self._moved.advance(3600)
        await self.reap_expired(lease.stage)
        [holder] = await self.claim(
            lease.stage, worker="other", max_tasks=1, max_cost=10**9, lease_seconds=3600
        )
        self.stale_acks += 1
        await super().ack([replace(lease, fence=holder.fence)])


async def test_a_stale_ack_that_is_believed_ends_a_task_nobody_has_done(
    settings: Settings, inputs: InputLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = TrustingBroker(ManualClock())
    process = StageLoop._process
    crashed = asyncio.Event()

    async def lose_the_lease(self: StageLoop, leases: Sequence[Lease], done: Done) -> Any:
        """Its lease runs out before it has done anything; the new holder dies; then it acks all the same."""
        if self.stage is Stage.STORAGE and not crashed.is_set() and len(leases) == 1:
            crashed.set()
            await broker.expire_and_ack(leases[0])
            return {}
        return await process(self, leases, done)

    monkeypatch.setattr(StageLoop, "_process", lose_the_lease)
    async with running(settings, broker=broker) as fleet:
        await inputs.submit_documents(fleet.jobs, "doc", 1, chunks=4)
        await crashed.wait()
        await fleet.eventually(lambda depths: depths[Stage.EMBEDDING].done == 1)
        await fleet.idle()
        system = fleet.system
        findings = await oracle.examine(
            inputs, database=system.database, store=system.store, broker=system.broker
        )
    assert broker.stale_acks == 1
    assert {Kind.UNFINISHED, Kind.LOST} <= kinds(findings)


# --- damaged vectors ---


@pytest.mark.parametrize("bit", [2, 31])
async def test_a_vector_with_one_bit_changed_is_named(
    settings: Settings, inputs: InputLedger, bit: int
) -> None:
    async def flip(fleet: Running) -> None:
        document, vector = first_vector(inputs)
        vector[7:8].view(np.uint32)[:] ^= np.uint32(1 << bit)
        # The store normalises: the ledger is changed instead, which is the same to the comparison.
        vectors = document.vectors_array()
        vectors[0] = vector
        key = (document.tenant, document.media_id)
        changed = base64.b64encode(vectors.astype("<f4").tobytes()).decode()
        inputs.documents[key] = replace(document, vectors=changed)

    findings = await findings_of(settings, inputs, then=flip)
    document, _ = first_vector(inputs)
    name = collection_name(document.tenant, document.space)
    assert [str(one) for one in findings] == [
        f"wrong: vector store, {name}: chunk {document.chunk_ids[0]} has another vector"
    ]


async def test_a_vector_that_was_overwritten_is_named(settings: Settings, inputs: InputLedger) -> None:
    async def overwrite(fleet: Running) -> None:
        document, vector = first_vector(inputs)
        rows = VectorRows([document.chunk_ids[0]], np.roll(vector, 1)[None], [{"x": 1}], None)
        await fleet.system.store.upsert(document.collection, rows)

    findings = await findings_of(settings, inputs, then=overwrite)
    assert [finding.kind for finding in findings] == [Kind.WRONG]


async def test_a_lost_row_is_named(settings: Settings, inputs: InputLedger) -> None:
    async def lose(fleet: Running) -> None:
        document, _ = first_vector(inputs)
        await fleet.system.store.delete(document.collection, [document.chunk_ids[0]])

    findings = await findings_of(settings, inputs, then=lose)
    assert [finding.kind for finding in findings] == [Kind.LOST]


async def test_a_surplus_row_is_named(settings: Settings, inputs: InputLedger) -> None:
    async def add(fleet: Running) -> None:
        document, vector = first_vector(inputs)
        rows = VectorRows(["ab" * 16], vector[None], [{"x": 1}], None)
        await fleet.system.store.upsert(document.collection, rows)

    findings = await findings_of(settings, inputs, then=add)
    assert [finding.kind for finding in findings] == [Kind.SURPLUS]


async def test_a_row_that_a_store_returns_twice_is_named(settings: Settings, inputs: InputLedger) -> None:
    class Echo(ChromaVectorStore):
        async def scan(self, collection: CollectionKey, *, page: int = 1000) -> Any:
            async for ids, vectors in super().scan(collection, page=page):
                yield ids, vectors
                yield ids[:1], vectors[:1]

    echo = await Echo.open(chroma_directory(settings.data_dir))
    findings = await findings_of(settings, inputs, store=echo)
    assert [finding.kind for finding in findings] == [Kind.DOUBLED]


# --- damaged SQL ---


DAMAGE: Sequence[tuple[Any, Kind]] = (
    (delete(tables.jobs).where(tables.jobs.c.run == 1), Kind.LOST),
    (update(tables.jobs).values(job_id=tables.jobs.c.job_id + "x"), Kind.SURPLUS),
    (update(tables.jobs).values(finished_at=None), Kind.UNFINISHED),
    (update(tables.jobs).values(chunks_stored=tables.jobs.c.chunks_stored + 1), Kind.DOUBLED),
    (update(tables.generations).values(content_hash="0"), Kind.WRONG),
    (delete(tables.chunks).where(tables.chunks.c.chunk_index == 3), Kind.WRONG),
    (delete(tables.vectors), Kind.LOST),
    (update(tables.documents).values(cleanup=1), Kind.LEFT),
)


async def test_damage_to_sql_is_named(settings: Settings, inputs: InputLedger) -> None:
    async def harm(fleet: Running) -> None:
        for damage, kind in DAMAGE:
            with pytest.raises(UndoneError) as undone:
                await fleet.system.database.write(partial(harm_and_look, damage=damage))
            assert kind in kinds(undone.value.findings), damage

    def harm_and_look(conn: Connection, damage: Any) -> None:
        conn.execute(damage)
        raise UndoneError(list(oracle.in_sql(conn, inputs)))

    assert await findings_of(settings, inputs, then=harm) == []


class UndoneError(Exception):
    """Takes the findings out of a transaction that must not be kept."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__()
        self.findings = findings


# --- what is left in the broker ---


async def test_a_leaked_lease_is_named(settings: Settings, inputs: InputLedger) -> None:
    class Leaking(MemoryBroker):
        async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
            return await super().ack([lease for lease in leases if lease.stage is not Stage.STORAGE])

    findings = await findings_of(settings, inputs, broker=Leaking(), wait=at_once)
    assert any("tasks are leased" in finding.line for finding in findings)


async def test_a_leaked_key_in_redis_is_named(redis_server: RedisServer, inputs: InputLedger) -> None:
    broker = await RedisBroker.open(redis_settings(redis_server.url))
    try:
        await broker.epoch()
        with redis_server.client() as client:
            assert list(oracle.redis_keys(client, "embedfleet")) == []
            leaked = stage_key("embedfleet", Stage.EMBEDDING, "payloads")
            client.hset(leaked, "task", "payload")
            client.set("stray", "1")
            assert [finding.line for finding in oracle.redis_keys(client, "embedfleet")] == [
                "Redis key stray",
                f"Redis key {leaked}",
            ]
    finally:
        await broker.close()


def test_expectations_do_not_depend_on_the_run() -> None:
    text = paragraphs("a", 5)
    assert expect("alice", "1", text) == expect("alice", "1", text)
    assert len(expect("alice", "1", text).chunk_ids) == 5
    assert expect("alice", "1", text).chunk_ids != expect("alice", "2", text).chunk_ids


def first_vector(inputs: InputLedger) -> tuple[Document, Any]:
    document = next(iter(inputs))
    return document, document.vectors_array()[0].copy()
