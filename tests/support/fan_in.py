"""Fan-in in any order: plans of what happens to jobs, and sixteen connections that carry them out at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from embedfleet.queue_schemas import ChunkingConfig, JobStatus, Stage, UserTier
from embedfleet.records import batches, collections, documents, generations, job_completion, jobs, segments
from embedfleet.records.batches import Batch, EmbeddedBatch, StoredBatch
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.documents import DocumentName
from embedfleet.records.generations import NewGeneration
from embedfleet.records.job_completion import JobEnd
from embedfleet.records.jobs import Job, NewJob
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database

NOW = 1_700_000_000.0
CHUNKS_PER_BATCH = 3


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
    wanted = collections.Wanted("t", model="stub", space="s", dim=8)
    collection = collections.ensure(conn, [wanted])[wanted.key]
    documents.ensure_documents(conn, [DocumentName(name, "t", name, None)], NOW)
    recipe = generations.Recipe("h", None, "text", 1, ChunkingConfig(), CHUNKS_PER_BATCH)
    texts = [segments.Segment.of(0, 0, "x")]
    (generation_id,) = generations.add_generations(
        conn, [NewGeneration(name, 1, recipe, collection, texts, chunker_version=1)]
    )
    job = NewJob(
        job_id=name,
        tenant="t",
        document_id=name,
        generation_id=generation_id,
        user_tier=UserTier.FREE,
        priority=50,
        created_at=NOW,
    )
    jobs.create(conn, [job])
    return name


def batch(ordinal: int) -> Batch:
    return Batch(ordinal, ordinal * CHUNKS_PER_BATCH, CHUNKS_PER_BATCH)


def embed(conn: Connection, job_id: str, ordinal: int, *, reused: int = 0) -> None:
    batches.record_embedded(conn, [EmbeddedBatch(job_id, ordinal, reused)])


def store(
    conn: Connection, job_id: str, ordinal: int, *, reused: int = 0, dead: Sequence[DeadLetter] = ()
) -> bool:
    """Whether this call counted the batch."""
    return bool(batches.record_stored(conn, [StoredBatch(job_id, ordinal, reused, dead)], NOW))


def complete(conn: Connection, job_id: str) -> JobStatus | None:
    """The status with which this call finished the job."""
    return job_completion.complete_done(conn, [job_id], NOW).get(job_id)


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
        job_completion.seal(conn, [JobEnd(self.job_id, self.batches * CHUNKS_PER_BATCH, 1.0)], NOW)
        return self._complete(conn)

    def _embed(self, conn: Connection, ordinal: int) -> None:
        embed(conn, self.job_id, ordinal, reused=1)

    def _store(self, conn: Connection, ordinal: int) -> JobStatus | None:
        dead = (
            [DeadLetter(Stage.EMBEDDING, "bad", ordinal, ordinal * CHUNKS_PER_BATCH, 0, 1)]
            if ordinal in self.dead
            else []
        )
        if not store(conn, self.job_id, ordinal, reused=1, dead=dead):
            return None
        return self._complete(conn)

    def _complete(self, conn: Connection) -> JobStatus | None:
        status = complete(conn, self.job_id)
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


_BATCHES_OF_JOBS = (0, 1, 1, 2, 5, 50)
_CREATED_AT_ONCE = 200
_DATABASES, _LANES = 4, 4


def make_plans(count: int, rng: random.Random) -> list[Plan]:
    plans = []
    for n in range(count):
        count = rng.choice(_BATCHES_OF_JOBS)
        dead = frozenset(i for i in range(count) if rng.random() < 0.1)
        plans.append(Plan(f"job{n}", count, dead))
    return plans


async def create(database: Database, plans: Sequence[Plan]) -> None:
    """The jobs with their batches, nothing of which is done."""

    def write(conn: Connection, some: Sequence[Plan]) -> None:
        for plan in some:
            new_job(conn, plan.job_id)
            batches.add(conn, {plan.job_id: [batch(n) for n in range(plan.batches)]})

    for start in range(0, len(plans), _CREATED_AT_ONCE):
        await database.write(partial(write, some=plans[start : start + _CREATED_AT_ONCE]))


async def carry_out(url: str, plans: Sequence[Plan], rng: random.Random) -> Counter[str]:
    """All steps of all plans, shuffled, every fifth told twice, over sixteen connections. Who was told
    how often that it completed a job."""
    steps = [(plan.job_id, step) for plan in plans for step in plan.steps()]
    steps += rng.sample(steps, len(steps) // 5)
    rng.shuffle(steps)
    completions: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        # SQLite: four writers with a connection each. PostgreSQL: four connections of each.
        databases = [await stack.enter_async_context(opened(url)) for _ in range(_DATABASES)]

        async def go_through(
            through: Database, mine: Sequence[tuple[str, Callable[[Connection], JobStatus | None]]]
        ) -> None:
            for job_id, step in mine:
                if await through.write(step) is not None:
                    completions[job_id] += 1

        async with asyncio.TaskGroup() as tasks:
            for i, through in enumerate(databases):
                for lane in range(_LANES):
                    mine = steps[i * _LANES + lane :: _DATABASES * _LANES]
                    tasks.create_task(go_through(through, mine))
    return completions
