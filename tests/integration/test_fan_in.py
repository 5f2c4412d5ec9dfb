"""Fan-in: of everybody who could finish a job, exactly one does, and never early."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, select

from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.records import batches, dead_letters, job_completion, jobs
from embedfleet.records.batches import StoredBatch
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.job_completion import BrokenPartition, JobEnd
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from support.fan_in import (
    CHUNKS_PER_BATCH,
    NOW,
    assert_counters,
    batch,
    carry_out,
    complete,
    create,
    embed,
    make_plans,
    new_job,
    opened,
    store,
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_job_completes_exactly_once_whatever_the_order_and_however_often_told(
    database_url: str, database: Database, seed: int
) -> None:
    plans = make_plans(200, random.Random(seed))
    await create(database, plans)
    completions = await carry_out(database_url, plans, random.Random(seed))
    assert completions == Counter({plan.job_id: 1 for plan in plans})
    told = await database.read(lambda conn: conn.execute(select(tables.events.c.event_id)).scalars().all())
    assert sorted(told) == sorted(f"{plan.job_id}:1" for plan in plans)
    found = await database.read(lambda conn: jobs.get_many(conn, [plan.job_id for plan in plans]))
    for plan in plans:
        assert_counters(found[plan.job_id], plan)


async def test_a_job_whose_every_chunk_died_has_failed(database: Database) -> None:
    def all_dead(conn: Connection) -> JobStatus | None:
        new_job(conn, "j")
        batches.add(conn, {"j": [batch(0)]})
        letters = [DeadLetter(Stage.EMBEDDING, "bad", 0, n, n, n + 1) for n in range(CHUNKS_PER_BATCH)]
        store(conn, "j", 0, dead=letters)
        job_completion.seal(conn, [JobEnd("j", CHUNKS_PER_BATCH, 1.0)], NOW)
        return complete(conn, "j")

    assert await database.write(all_dead) is JobStatus.FAILED


async def test_a_job_without_batches_is_complete_only_once_it_is_sealed(database: Database) -> None:
    def walk(conn: Connection) -> list[JobStatus | None]:
        new_job(conn, "j")
        before = complete(conn, "j")
        job_completion.seal(conn, [JobEnd("j", 0, 1.0)], NOW)
        return [before, complete(conn, "j"), complete(conn, "j")]

    assert await database.write(walk) == [None, JobStatus.COMPLETED, None]


async def test_a_cancelled_job_never_completes(database: Database) -> None:
    def cancel_then_store(conn: Connection) -> JobStatus | None:
        new_job(conn, "j")
        batches.add(conn, {"j": [batch(0)]})
        job_completion.seal(conn, [JobEnd("j", CHUNKS_PER_BATCH, 1.0)], NOW)
        assert job_completion.finish(conn, ["j"], JobStatus.CANCELLED, reason="cancelled", now=NOW)
        store(conn, "j", 0)
        assert not job_completion.finish(conn, ["j"], JobStatus.FAILED, reason="late", now=NOW)
        return complete(conn, "j")

    assert await database.write(cancel_then_store) is None
    job = await database.read(lambda conn: jobs.get(conn, "j"))
    assert job is not None
    assert (job.status, job.reason) == (JobStatus.CANCELLED, "cancelled")


async def test_a_partition_that_lost_a_batch_cannot_be_sealed(database: Database) -> None:
    def seal_too_early(conn: Connection) -> dict[str, BrokenPartition]:
        for job_id in ("whole", "broken"):
            new_job(conn, job_id)
        batches.add(conn, {"whole": [batch(0)], "broken": [batch(0), batch(2)]})
        ends = [JobEnd("whole", CHUNKS_PER_BATCH, 1.0), JobEnd("broken", 3 * CHUNKS_PER_BATCH, 1.0)]
        return job_completion.seal(conn, ends, NOW)

    failures = await database.write(seal_too_early)
    assert list(failures) == ["broken"]
    assert "9 chunks made, 6 in its batches" in str(failures["broken"])
    found = await database.read(lambda conn: jobs.get_many(conn, ["whole", "broken"]))
    assert {job_id: job.sealed for job_id, job in found.items()} == {"whole": True, "broken": False}


async def test_a_replayed_partition_counts_nothing_twice_and_skips_what_is_done(database: Database) -> None:
    def twice(conn: Connection) -> list[int]:
        new_job(conn, "j")
        made = [batch(n) for n in range(3)]
        batches.add(conn, {"j": made})
        store(conn, "j", 1)
        return [again.ordinal for again in batches.add(conn, {"j": made})["j"]]

    assert await database.write(twice) == [0, 2]
    job = await database.read(lambda conn: jobs.get(conn, "j"))
    assert job is not None
    assert job.chunks_total == 3 * CHUNKS_PER_BATCH


async def test_of_many_batches_told_at_once_those_that_moved_are_counted_by_the_state_they_left(
    database: Database,
) -> None:
    names = ["pending", "embedded", "done", "cancelled", "dead"]
    letter = DeadLetter(Stage.EMBEDDING, "bad", 0, 0, 0, 1)

    def begin(conn: Connection) -> None:
        for name in names:
            new_job(conn, name)
        batches.add(conn, {name: [batch(0), batch(1)] for name in names})
        job_completion.seal(conn, [JobEnd(name, 2 * CHUNKS_PER_BATCH, 1.0) for name in names], NOW)
        embed(conn, "embedded", 0, reused=1)
        store(conn, "done", 0, reused=1)
        assert job_completion.finish(conn, ["cancelled"], JobStatus.CANCELLED, reason="cancelled", now=NOW)

    def tell(conn: Connection) -> set[tuple[str, int]]:
        stored = [StoredBatch(name, 0, reused=1, dead=[letter] if name == "dead" else []) for name in names]
        return batches.record_stored(conn, [*stored, StoredBatch("pending", 1, reused=2), *stored], NOW)

    await database.write(begin)
    counted = await database.write(tell)
    assert counted >= {("pending", 0), ("pending", 1), ("embedded", 0), ("dead", 0)}
    assert ("done", 0) not in counted
    found = await database.read(lambda conn: jobs.get_many(conn, names))
    assert {
        name: (
            *(job.batches_embedded, job.chunks_embedded, job.chunks_reused),
            *(job.batches_done, job.chunks_stored, job.chunks_dead),
        )
        for name, job in found.items()
    } == {
        "pending": (2, 6, 3, 2, 6, 0),
        "embedded": (1, 3, 1, 1, 3, 0),
        "done": (1, 3, 1, 1, 3, 0),
        "cancelled": (0, 0, 0, 0, 0, 0),
        "dead": (1, 3, 1, 1, 2, 1),
    }
    assert found["pending"].status is JobStatus.STORING
    assert found["embedded"].status is JobStatus.EMBEDDING
    assert await database.read(lambda conn: dead_letters.of_jobs(conn, names)) == {"dead": [letter]}


async def test_the_status_shown_is_the_earliest_stage_with_work_left(database: Database) -> None:
    def walk(conn: Connection) -> list[JobStatus]:
        seen = []

        def look() -> None:
            job = jobs.get(conn, "j")
            assert job is not None
            seen.append(job.status)

        new_job(conn, "j")
        look()
        jobs.start_chunking(conn, ["j"], NOW)
        batches.add(conn, {"j": [batch(0), batch(1)]})
        embed(conn, "j", 0)
        look()
        job_completion.seal(conn, [JobEnd("j", 2 * CHUNKS_PER_BATCH, 1.0)], NOW)
        look()
        store(conn, "j", 0)
        look()
        embed(conn, "j", 1)
        look()
        store(conn, "j", 1)
        complete(conn, "j")
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
