"""A chunking claim of many documents: they are cut together, and each of them fails alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, delete, func, select, update

from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.lifecycle import ending
from embedfleet.queue.broker import Task
from embedfleet.queue_schemas import ChunkingTask, JobStatus, Stage
from embedfleet.records import batches, jobs
from embedfleet.records.batches import Batch
from embedfleet.settings import Settings
from embedfleet.sql import tables
from support.databases import on_both_databases
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.system import TENANT, paragraphs

NOW = 1_000.0


async def submitted(stages: StagesByHand, names: Sequence[str]) -> dict[str, str]:
    """The job of each document."""
    job_ids = await stages.submit([(TENANT, name, f"The text of {name}.") for name in names])
    return dict(zip(names, job_ids, strict=True))


async def chunks_in_sql(stages: StagesByHand) -> int:
    query = select(func.count()).select_from(tables.chunks)
    return await stages.system.database.read(lambda conn: int(conn.execute(query).scalar_one()))


@on_both_databases
async def test_what_is_wrong_with_one_document_is_no_matter_of_the_others_in_its_claim(
    settings: Settings,
) -> None:
    async with stages_by_hand(settings) as stages:
        job_of = await submitted(stages, ["good", "textless", "cancelled", "broken", "fine"])
        database = stages.system.database

        def spoil(conn: Connection) -> None:
            textless, cancelled = (jobs.lock(conn, job_of[name]) for name in ("textless", "cancelled"))
            assert textless is not None
            assert cancelled is not None
            mine = tables.segments.c.generation_id == textless.generation_id
            conn.execute(delete(tables.segments).where(mine))
            mine = tables.generations.c.generation_id == textless.generation_id
            conn.execute(delete(tables.generations).where(mine))
            ending.cancel(conn, cancelled, NOW)
            # A batch that this document never has: so its batches do not hold exactly its chunks.
            batches.add(conn, {job_of["broken"]: [Batch(ordinal=7, first_chunk=99, chunks=3)]})

        await database.write(spoil)
        assert await stages.do(Stage.CHUNKING, 64) == len(job_of)
        depth = await stages.system.broker.depth(Stage.CHUNKING)
        assert (depth.done, depth.dead, depth.delayed) == (3, 1, 1), "the broken one is tried again"
        statuses = dict(zip(job_of, await stages.statuses(list(job_of.values())), strict=True))
        assert statuses == {
            "good": JobStatus.EMBEDDING,
            "textless": JobStatus.FAILED,
            "cancelled": JobStatus.CANCELLED,
            "broken": JobStatus.CHUNKING,
            "fine": JobStatus.EMBEDDING,
        }
        sealed = await database.read(lambda conn: jobs.get_many(conn, list(job_of.values())))
        assert [name for name, job_id in job_of.items() if sealed[job_id].sealed] == ["good", "fine"]


@on_both_databases
async def test_a_claim_that_is_delivered_again_makes_and_counts_nothing_twice(settings: Settings) -> None:
    async with stages_by_hand(settings) as stages:
        job_of = await submitted(stages, ["a", "b", "c"])
        lost = await stages.claim(Stage.CHUNKING, 3)
        await stages.loops[Stage.CHUNKING].process(lost, _settle_nothing)  # and its worker dies
        await stages.system.broker.hand_back(lost)
        assert await stages.do(Stage.CHUNKING, 3) == 3
        assert (await stages.system.broker.depth(Stage.EMBEDDING)).enqueued == 3
        found = await stages.system.database.read(lambda conn: jobs.get_many(conn, list(job_of.values())))
        assert [(job.chunks_total, job.batches_total) for job in found.values()] == [(1, 1)] * 3
        assert await chunks_in_sql(stages) == 3


async def test_a_document_that_another_release_began_is_cut_again_beside_others(settings: Settings) -> None:
    async with stages_by_hand(settings) as stages:
        job_of = await submitted(stages, ["begun", "new"])
        database = stages.system.database

        def begin(conn: Connection) -> None:
            job = jobs.lock(conn, job_of["begun"])
            assert job is not None
            batches.add(conn, {job.job_id: [Batch(ordinal=0, first_chunk=0, chunks=5)]})
            mine = tables.generations.c.generation_id == job.generation_id
            conn.execute(update(tables.generations).where(mine).values(chunker_version=PARTITION_VERSION - 1))

        await database.write(begin)
        assert await stages.do(Stage.CHUNKING, 2) == 2
        found = await database.read(lambda conn: jobs.get_many(conn, list(job_of.values())))
        assert [(job.chunks_total, job.sealed) for job in found.values()] == [(1, True)] * 2


@pytest.mark.parametrize("stop", [False, True])
async def test_a_large_document_among_small_ones_is_cut_to_its_end_unless_a_stop_comes(
    settings: Settings, stop: bool
) -> None:
    async with stages_by_hand(settings) as stages:
        loop = stages.loops[Stage.CHUNKING]
        small = await submitted(stages, ["before"])
        (large,) = await stages.submit([(TENANT, "large", paragraphs("large", 3_000))])
        after = await submitted(stages, ["after"])
        if stop:
            loop._stop.set()
        assert await stages.do(Stage.CHUNKING, 3) == 3
        depth = await stages.system.broker.depth(Stage.CHUNKING)
        assert (depth.done, depth.ready) == ((0, 3) if stop else (3, 0))
        found = await stages.system.database.read(
            lambda conn: jobs.get_many(conn, [large, *small.values(), *after.values()])
        )
        assert [job.sealed for job in found.values()] == [not stop] * 3


async def test_a_job_that_no_longer_exists_ends_its_task(settings: Settings) -> None:
    async with stages_by_hand(settings) as stages:
        payload = ChunkingTask(tenant=TENANT, job_id="job_gone").encode()
        await stages.system.broker.enqueue(Stage.CHUNKING, [Task("gone", TENANT, "job_gone", 1, payload)])
        (job_id,) = (await submitted(stages, ["there"])).values()
        assert await stages.do(Stage.CHUNKING, 2) == 2
        assert (await stages.system.broker.depth(Stage.CHUNKING)).done == 2
        assert await stages.statuses([job_id]) == [JobStatus.EMBEDDING]


async def _settle_nothing(_leases: object) -> None:
    return
