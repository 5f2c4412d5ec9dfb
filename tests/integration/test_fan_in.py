"""Fan-in: of everybody who could finish a job, exactly one does, and never early."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from sqlalchemy import Connection, select

from embedfleet.queue_schemas import ChunkingConfig, JobStatus, Stage, UserTier
from embedfleet.storage import document_lock, documents, jobs, tables
from embedfleet.storage.database import Database
from embedfleet.storage.dead_letters import DeadLetter
from embedfleet.storage.jobs import Batch, BrokenPartition, Job

NOW = 1_700_000_000.0
CHUNKS_PER_BATCH = 3


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, synchronous="normal")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def new_job(conn: Connection, name: str) -> str:
    document_lock.lock(conn, [name])
    collection = documents.ensure_collection(conn, name="c", tenant_id="t", model="stub", space="s", dim=8)
    documents.ensure_document(conn, document_id=name, tenant_id="t", media_id=name, source=None, now=NOW)
    version = documents.Version("h", None, "text", 1, ChunkingConfig(), CHUNKS_PER_BATCH)
    generation_id = documents.add_generation(
        conn, name, version, collection, [documents.Segment.of(0, 0, "x")], chunker_version=1
    )
    jobs.create(
        conn,
        job_id=name,
        tenant_id="t",
        document_id=name,
        generation_id=generation_id,
        user_tier=UserTier.FREE,
        priority=50,
        now=NOW,
    )
    return name


def batch(ordinal: int) -> Batch:
    return Batch(ordinal, ordinal * CHUNKS_PER_BATCH, CHUNKS_PER_BATCH)


@dataclass(frozen=True)
class Plan:
    """What happens to one job: its batches, which of them lose a chunk, and whether it is cancelled."""

    job_id: str
    batches: int
    dead: frozenset[int]

    def steps(self) -> list[Callable[[Connection], JobStatus | None]]:
        return [
            partial(self._seal),
            *(partial(self._embed, ordinal=n) for n in range(self.batches)),
            *(partial(self._store, ordinal=n) for n in range(self.batches)),
        ]

    def _seal(self, conn: Connection) -> JobStatus | None:
        jobs.seal(conn, self.job_id, chunks_total=self.batches * CHUNKS_PER_BATCH, coverage=1.0)
        return self._complete(conn)

    def _embed(self, conn: Connection, ordinal: int) -> None:
        jobs.embedded(conn, self.job_id, ordinal, reused=1)

    def _store(self, conn: Connection, ordinal: int) -> JobStatus | None:
        dead = (
            [DeadLetter(Stage.EMBEDDING, "bad", ordinal, ordinal * CHUNKS_PER_BATCH, 0, 1)]
            if ordinal in self.dead
            else []
        )
        if not jobs.stored(conn, self.job_id, ordinal, reused=1, dead=dead, now=NOW):
            return None
        return self._complete(conn)

    def _complete(self, conn: Connection) -> JobStatus | None:
        status = jobs.complete(conn, self.job_id, NOW)
        if status is not None:  # looked at in the very transaction that finished it
            job = jobs.get(conn, self.job_id)
            assert job is not None
            assert job.sealed
            assert job.batches_done == job.batches_total == self.batches, "finished early"
        return status


def assert_counters(job: Job, plan: Plan) -> None:
    chunks = plan.batches * CHUNKS_PER_BATCH
    assert job.chunks_total == job.chunks_embedded == chunks
    assert job.chunks_reused == plan.batches
    assert job.chunks_dead == len(plan.dead)
    assert job.chunks_stored == chunks - len(plan.dead)
    assert job.status is (JobStatus.COMPLETED_WITH_ERRORS if plan.dead else JobStatus.COMPLETED)


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_job_completes_exactly_once_whatever_the_order_and_however_often_told(
    database_url: str, database: Database, seed: int
) -> None:
    rng = random.Random(seed)
    plans = []
    for n in range(300):
        count = rng.choice([0, 1, 1, 2, 5, 50])
        dead = frozenset(i for i in range(count) if rng.random() < 0.1)
        plans.append(Plan(f"job{n}", count, dead))
    for plan in plans:
        await database.write(partial(new_job, name=plan.job_id))
        await database.write(
            partial(jobs.add_batches, job_id=plan.job_id, made=[batch(n) for n in range(plan.batches)])
        )
    steps = [(plan.job_id, step) for plan in plans for step in plan.steps()]
    steps += rng.sample(steps, len(steps) // 5)
    rng.shuffle(steps)

    completions: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        # SQLite: four writers with a connection each. PostgreSQL: four connections of each.
        databases = [await stack.enter_async_context(opened(database_url)) for _ in range(4)]

        async def carry_out(
            through: Database, mine: Sequence[tuple[str, Callable[[Connection], JobStatus | None]]]
        ) -> None:
            for job_id, step in mine:
                if await through.write(step) is not None:
                    completions[job_id] += 1

        async with asyncio.TaskGroup() as tasks:
            for i, through in enumerate(databases):
                for lane in range(4):
                    tasks.create_task(carry_out(through, steps[i * 4 + lane :: 16]))

    assert completions == Counter({plan.job_id: 1 for plan in plans})
    told = await database.read(lambda conn: conn.execute(select(tables.events.c.event_id)).scalars().all())
    assert sorted(told) == sorted(f"{plan.job_id}:1" for plan in plans)
    found = await database.read(lambda conn: jobs.get_many(conn, [plan.job_id for plan in plans]))
    for plan in plans:
        assert_counters(found[plan.job_id], plan)


async def test_a_job_whose_every_chunk_died_has_failed(database: Database) -> None:
    def all_dead(conn: Connection) -> JobStatus | None:
        new_job(conn, "j")
        jobs.add_batches(conn, "j", [batch(0)])
        letters = [DeadLetter(Stage.EMBEDDING, "bad", 0, n, n, n + 1) for n in range(CHUNKS_PER_BATCH)]
        jobs.stored(conn, "j", 0, reused=0, dead=letters, now=NOW)
        jobs.seal(conn, "j", chunks_total=CHUNKS_PER_BATCH, coverage=1.0)
        return jobs.complete(conn, "j", NOW)

    assert await database.write(all_dead) is JobStatus.FAILED


async def test_a_job_without_batches_is_complete_only_once_it_is_sealed(database: Database) -> None:
    def walk(conn: Connection) -> list[JobStatus | None]:
        new_job(conn, "j")
        before = jobs.complete(conn, "j", NOW)
        jobs.seal(conn, "j", chunks_total=0, coverage=1.0)
        return [before, jobs.complete(conn, "j", NOW), jobs.complete(conn, "j", NOW)]

    assert await database.write(walk) == [None, JobStatus.COMPLETED, None]


async def test_a_cancelled_job_never_completes(database: Database) -> None:
    def cancel_then_store(conn: Connection) -> JobStatus | None:
        new_job(conn, "j")
        jobs.add_batches(conn, "j", [batch(0)])
        jobs.seal(conn, "j", chunks_total=CHUNKS_PER_BATCH, coverage=1.0)
        assert jobs.finish(conn, "j", JobStatus.CANCELLED, reason="cancelled", now=NOW)
        jobs.stored(conn, "j", 0, reused=0, dead=[], now=NOW)
        assert not jobs.finish(conn, "j", JobStatus.FAILED, reason="late", now=NOW)
        return jobs.complete(conn, "j", NOW)

    assert await database.write(cancel_then_store) is None
    job = await database.read(lambda conn: jobs.get(conn, "j"))
    assert job is not None
    assert (job.status, job.reason) == (JobStatus.CANCELLED, "cancelled")


async def test_a_partition_that_lost_a_batch_cannot_be_sealed(database: Database) -> None:
    def seal_too_early(conn: Connection) -> None:
        new_job(conn, "j")
        jobs.add_batches(conn, "j", [batch(0), batch(2)])
        jobs.seal(conn, "j", chunks_total=3 * CHUNKS_PER_BATCH, coverage=1.0)

    with pytest.raises(BrokenPartition, match="9 chunks made, 6 in its batches"):
        await database.write(seal_too_early)
    assert await database.read(lambda conn: jobs.get(conn, "j")) is None


async def test_a_replayed_partition_counts_nothing_twice_and_skips_what_is_done(database: Database) -> None:
    def twice(conn: Connection) -> list[int]:
        new_job(conn, "j")
        made = [batch(n) for n in range(3)]
        jobs.add_batches(conn, "j", made)
        jobs.stored(conn, "j", 1, reused=0, dead=[], now=NOW)
        return [again.ordinal for again in jobs.add_batches(conn, "j", made)]

    assert await database.write(twice) == [0, 2]
    job = await database.read(lambda conn: jobs.get(conn, "j"))
    assert job is not None
    assert job.chunks_total == 3 * CHUNKS_PER_BATCH


async def test_the_status_shown_is_the_earliest_stage_with_work_left(database: Database) -> None:
    def walk(conn: Connection) -> list[JobStatus]:
        seen = []

        def look() -> None:
            job = jobs.get(conn, "j")
            assert job is not None
            seen.append(job.status)

        new_job(conn, "j")
        look()
        jobs.start_chunking(conn, "j", NOW)
        jobs.add_batches(conn, "j", [batch(0), batch(1)])
        jobs.embedded(conn, "j", 0, reused=0)
        look()
        jobs.seal(conn, "j", chunks_total=2 * CHUNKS_PER_BATCH, coverage=1.0)
        look()
        jobs.stored(conn, "j", 0, reused=0, dead=[], now=NOW)
        look()
        jobs.embedded(conn, "j", 1, reused=0)
        look()
        jobs.stored(conn, "j", 1, reused=0, dead=[], now=NOW)
        jobs.complete(conn, "j", NOW)
        look()
        return seen

    assert await database.write(walk) == [
        JobStatus.PENDING,
        JobStatus.CHUNKING,
        JobStatus.EMBEDDING,
        JobStatus.EMBEDDING,
        JobStatus.STORING,
        JobStatus.COMPLETED,
    ]
