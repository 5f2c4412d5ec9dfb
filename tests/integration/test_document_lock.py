"""One document, one writer at a time: what units running side by side must not do to each other.

Two kinds of tests: units held at the very point where a race would be lost, and a crowd of them.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, select

from embedfleet.clock import ManualClock
from embedfleet.errors import InvalidRequest, QuotaExceeded
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Task
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import DeletionTask, JobStatus, Stage
from embedfleet.records import chunks, generations, jobs, outbox
from embedfleet.records.chunks import ChunkRow
from embedfleet.settings import PoolsSettings, Settings
from embedfleet.sql import document_lock, tables
from embedfleet.sql.database import Database
from embedfleet.vectors.null import NullVectorStore
from embedfleet.workers.deletion_worker import DeletionLoop
from embedfleet.workers.services import Services
from support.databases import PostgresDatabases, on_both_databases
from support.hangs import HANG_SECONDS
from support.postgres_server import PostgresServer
from support.system import ONE_EACH, TENANT, Configure, all_at_the_end, paragraphs, running, take_ledger

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
CHUNK = "ab" * 16


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    async with opened(settings) as database:
        yield database


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.database_url, synchronous="normal")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def manager(settings: Settings, database: Database) -> EmbeddingJobManager:
    return EmbeddingJobManager(JobManagerConfig(settings=settings), database=database, clock=ManualClock())


async def submit(through: EmbeddingJobManager, media_id: str, content: str) -> str:
    return await through.create_job(media_id=media_id, user_id=TENANT, content=content)


async def job_of(database: Database, job_id: str) -> jobs.Job:
    job = await database.read(lambda conn: jobs.get(conn, job_id))
    assert job is not None
    return job


async def waits_for_a_lock(server: PostgresServer, task: asyncio.Task[Any], *, beside: int = 0) -> bool:
    """True as soon as a unit, beside so many others, waits for another one's lock. False if the task ends
    without."""
    while not task.done():
        ((waiting,),) = await asyncio.to_thread(
            server.execute, "SELECT count(*) FROM pg_locks WHERE NOT granted"
        )
        if int(str(waiting)) > beside:
            return True
    return False


# --- held at the point ---


@on_postgresql
@pytest.mark.usefixtures("database_url")
async def test_a_chunk_is_not_found_to_be_stored_while_its_vector_is_being_marked(
    settings: Settings, database: Database, postgres_databases: PostgresDatabases
) -> None:
    """Else the new version leaves it out, and the deletion takes it away: a lost vector."""
    through = manager(settings, database)
    old = await job_of(database, await submit(through, "1", "old"))
    await database.write(partial(refer, job=old))
    await database.write(partial(store, job=old))
    new = await job_of(database, await submit(through, "1", "new"))  # supersedes the old: nobody refers now
    marked, go_on = threading.Event(), threading.Event()

    def mark(conn: Connection) -> None:
        document_lock.lock(conn, [old.document_id])
        chunks.mark_unreferenced(conn, [old.document_id])
        marked.set()
        go_on.wait()

    marking = asyncio.create_task(database.write(mark))
    await asyncio.to_thread(marked.wait)
    referring = asyncio.create_task(database.write(partial(refer, job=new)))
    if await waits_for_a_lock(postgres_databases.server, referring):
        go_on.set()
    await referring
    left_out = await database.read(lambda conn: chunks.ids_stored(conn, [CHUNK]))
    go_on.set()
    await marking
    assert await database.read(lambda conn: chunks.ids_being_deleted(conn, [CHUNK])) == {CHUNK}
    assert left_out == set(), "the new version counts on a vector that is going to be deleted"


@on_postgresql
@pytest.mark.usefixtures("database_url")
async def test_the_outbox_waits_for_a_unit_that_will_change_the_same_jobs(
    settings: Settings, database: Database, postgres_databases: PostgresDatabases
) -> None:
    """Else each may hold the job that the other one wants next."""
    through = manager(settings, database)
    job_ids = [await submit(through, f"{n}", f"text {n}") for n in range(2)]
    waiting = await database.read(lambda conn: outbox.unoffered(conn, 2))
    locked, go_on = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        jobs.lock_many(conn, job_ids)
        locked.set()
        go_on.wait()

    holding = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(locked.wait)
    offering = asyncio.create_task(database.write(lambda conn: outbox.mark_offered(conn, waiting, 1.0)))
    waited = await waits_for_a_lock(postgres_databases.server, offering)
    go_on.set()
    await holding
    await offering
    assert waited


def refer(conn: Connection, job: jobs.Job) -> None:
    """As a chunking worker does."""
    document_lock.lock(conn, [job.document_id])
    row = ChunkRow(0, CHUNK, 0, 3, 1, "")
    chunks.add(conn, [(job.document_id, job.generation_id, [row])])


def store(conn: Connection, job: jobs.Job) -> None:
    """As a storage worker does."""
    document_lock.lock(conn, [job.document_id])
    generation = generations.generation(conn, job.generation_id)
    assert generation is not None
    chunks.record_stored(conn, [(generation, [CHUNK])], checksums={})


@on_postgresql
@pytest.mark.usefixtures("database_url")
async def test_a_document_that_comes_back_while_it_is_purged_is_not_purged_with_it(
    settings: Settings, database: Database, postgres_databases: PostgresDatabases, postgres_url: str
) -> None:
    through = manager(settings, database)
    old = await job_of(database, await submit(through, "1", "old"))
    assert await through.of(TENANT).delete_document(media_id="1")
    with psycopg.connect(postgres_url) as obstacle:
        # The purge has looked by the time it comes to the job's row, and must wait there for us.
        obstacle.execute("SELECT 1 FROM jobs WHERE job_id = %s FOR UPDATE", [old.job_id])
        purging = asyncio.create_task(clean(database, old.document_id))
        assert await waits_for_a_lock(postgres_databases.server, purging)
        coming_back = asyncio.create_task(submit(through, "1", "new"))
        # In its turn, not at once; a submission that does not wait ends here.
        await waits_for_a_lock(postgres_databases.server, coming_back, beside=1)
        obstacle.rollback()
        await purging
        new = await coming_back
    assert (await through.get_job_status(new)).status is JobStatus.PENDING
    assert await database.read(lambda conn: len(generations.generations_of(conn, old.document_id))) == 1


async def clean(database: Database, document_id: str) -> None:
    broker = MemoryBroker()
    services = Services(broker, database, Metrics(), ManualClock(), PoolsSettings())
    loop = DeletionLoop("d", services, store=NullVectorStore())
    message = DeletionTask(tenant=TENANT, job_id=document_id, document_id=document_id)
    task = Task(document_id, TENANT, document_id, 1, message.encode())
    await broker.enqueue(Stage.DELETION, [task])
    leases = await broker.claim(Stage.DELETION, worker="d", max_tasks=1, max_cost=1, lease_seconds=60)
    assert await loop.process(leases, all_at_the_end) == {}


# --- crowds ---


@pytest.fixture
async def crowd(settings: Settings) -> AsyncIterator[list[EmbeddingJobManager]]:
    """Managers as of several processes, with a connection pool each."""
    async with AsyncExitStack() as stack:
        yield [manager(settings, await stack.enter_async_context(opened(settings))) for _ in range(4)]


async def at_once(
    crowd: list[EmbeddingJobManager], count: int, work: Callable[..., Awaitable[str]]
) -> list[str | BaseException]:
    """`work(manager, number)` for each number, all together."""
    calls = [work(crowd[n % len(crowd)], n) for n in range(count)]
    return await asyncio.gather(*calls, return_exceptions=True)


@on_both_databases
async def test_versions_submitted_at_once_have_a_number_each_and_the_last_one_wins(
    settings: Settings, database: Database, crowd: list[EmbeddingJobManager]
) -> None:
    job_ids = await at_once(crowd, 40, lambda manager, n: submit(manager, "1", f"version {n}"))
    found = await crowd[0].of_all_tenants().statuses([str(job_id) for job_id in job_ids])
    by_number = sorted(found, key=lambda info: info.generation)
    assert [info.generation for info in by_number] == list(range(1, 41))
    assert {(info.status, info.reason) for info in by_number[:-1]} == {(JobStatus.CANCELLED, "superseded")}
    assert by_number[-1].status is JobStatus.PENDING


@on_both_databases
async def test_the_same_submitted_at_once_is_one_job(crowd: list[EmbeddingJobManager]) -> None:
    job_ids = await at_once(crowd, 40, lambda manager, n: submit(manager, "1", "the same"))
    assert len(set(job_ids)) == 1


@on_both_databases
async def test_a_quota_holds_to_the_last_job_however_many_submit_at_once(
    configure: Configure, database_url: str
) -> None:
    settings = configure(tenants={"tiers": {"free": {"max_active_jobs": 7}}})
    async with AsyncExitStack() as stack:
        crowd = [manager(settings, await stack.enter_async_context(opened(settings))) for _ in range(4)]
        outcomes = await at_once(crowd, 40, lambda manager, n: submit(manager, str(n), "words"))
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 7
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 33


@on_both_databases
async def test_of_a_cancel_a_deletion_and_a_retry_at_once_no_job_is_left_in_between(
    database: Database, crowd: list[EmbeddingJobManager]
) -> None:
    for n in range(10):
        job_id = await submit(crowd[0], str(n), "words")
        await crowd[0].of(TENANT).cancel(job_id)

        async def retry(manager: EmbeddingJobManager, job_id: str = job_id) -> None:
            try:
                await manager.of(TENANT).retry(job_id)
            except InvalidRequest:
                return

        await asyncio.gather(
            retry(crowd[0]),
            crowd[1].of(TENANT).delete_document(media_id=str(n)),
            retry(crowd[2]),
            crowd[3].of(TENANT).cancel(job_id),
        )
    unfinished = select(tables.generations.c.state, tables.jobs.c.status).join(
        tables.jobs, tables.jobs.c.generation_id == tables.generations.c.generation_id
    )
    rows = await database.read(lambda conn: conn.execute(unfinished).all())
    assert {(row.state, row.status) for row in rows} <= {("retired", "cancelled"), ("building", "pending")}


@on_postgresql
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.usefixtures("database_url")
async def test_versions_replaced_cancelled_and_deleted_under_many_workers_lose_and_leave_nothing(
    configure: Configure, seed: int
) -> None:
    """Few documents of few different paragraphs, so that versions always share some; every pool has
    several workers, every batch holds two chunks."""
    rng = random.Random(seed)
    pool = {"workers": 4, "batch_tasks": 3}
    settings = configure(
        worker_pools={"embedding": pool, "storage": pool, "deletion": {"workers": 3, "batch_tasks": 1}},
        chunking={"batch_chunks": 2},
    )
    parts = paragraphs("part", 12).split("\n\n")
    async with running(settings) as fleet:

        async def torment(media_id: str) -> None:
            for _ in range(12):
                text = "\n\n".join(rng.sample(parts, rng.randrange(1, len(parts))))
                job_id = await fleet.submit(media_id, text, chunking_config=ONE_EACH)
                await asyncio.sleep(rng.choice([0, 0.01, 0.05, 0.2]))  # any moment of its life will do
                what = rng.random()
                if what < 0.2:
                    await fleet.jobs.of(TENANT).cancel(job_id)
                elif what < 0.35 and await fleet.jobs.of(TENANT).cancel(job_id):
                    await fleet.jobs.of(TENANT).retry(job_id)
                elif what < 0.5:
                    await fleet.jobs.of(TENANT).delete_document(media_id=media_id)
            last = await fleet.submit(media_id, "\n\n".join(parts), chunking_config=ONE_EACH)
            info = await fleet.jobs.wait(last, timeout_seconds=HANG_SECONDS)
            assert info.status is JobStatus.COMPLETED
            assert info.progress.chunks_stored == len(parts)

        async with asyncio.TaskGroup() as tasks:
            for n in range(4):
                tasks.create_task(torment(str(n)))
        await fleet.idle()
        await fleet.settled()
        ledger = await take_ledger(fleet.system)
        ledger.assert_exact()
        assert len(ledger.held) == 4 * len(parts)
