"""Submitting many documents at once: the number of statements, and what a refusal leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection

from embedfleet.errors import InvalidRequest, ParseError, QuotaExceeded
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.queue_schemas import DocumentState, JobRequest, JobStatus
from embedfleet.records import generations, job_completion, jobs
from embedfleet.sql.database import Database
from support.statements import statements
from support.system import TENANT, Configure

TENANTS = 5


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def manager(configure: Configure, database: Database) -> EmbeddingJobManager:
    return EmbeddingJobManager(JobManagerConfig(settings=configure()), database=database)


def requests(name: str, count: int, *, version: int) -> list[JobRequest]:
    return [
        JobRequest(
            media_id=f"{name} {number}",
            user_id=f"tenant {number % TENANTS}",
            content=f"text {number} in version {version}",
            source_hash=f"hash {number} {version}",
        )
        for number in range(count)
    ]


async def publish(database: Database, job_ids: Sequence[str]) -> None:
    """Complete these jobs, as their last workers do."""

    def write(conn: Connection) -> None:
        ended = jobs.lock_many(conn, job_ids)
        job_completion.finish(conn, job_ids, JobStatus.COMPLETED, reason="", now=1.0)
        generations.mark_live(conn, [(job.document_id, job.generation_id) for job in ended.values()])

    await database.write(write)


async def statements_of(
    database: Database, manager: EmbeddingJobManager, name: str, count: int
) -> dict[str, int]:
    """How many statements each kind of submission takes, of `count` documents at once."""
    found: dict[str, int] = {}

    async def submit(kind: str, version: int) -> list[str]:
        given = requests(name, count, version=version)
        with statements() as executed:
            job_ids = await manager.create_jobs(given)
        found[kind] = len(executed)
        return job_ids

    begun = await submit("new", 1)
    assert await submit("under way", 1) == begun
    await publish(database, await submit("superseding", 2))
    unchanged = await submit("unchanged", 2)
    assert {(await manager.get_job_status(job_id)).reason for job_id in unchanged[:2]} == {"unchanged"}
    await submit("changed", 3)
    await submit("taken back", 2)
    return found


async def test_the_number_of_statements_does_not_grow_with_the_documents(
    database: Database, manager: EmbeddingJobManager
) -> None:
    await manager.create_jobs(requests("first", TENANTS, version=1))  # makes the collections
    one, few, many = [await statements_of(database, manager, f"of {count}", count) for count in (1, 64, 256)]
    assert few == many
    assert all(one[kind] <= few[kind] for kind in few)
    # Of which the transaction itself has none: BEGIN and COMMIT go to the driver.
    assert few["new"] <= 15


async def test_a_refusal_in_the_middle_admits_none(
    database: Database, manager: EmbeddingJobManager, configure: Configure
) -> None:
    limit = configure().tenants.tiers["free"].max_document_chars
    given = [
        JobRequest(media_id="a", user_id=TENANT, content="fine"),
        JobRequest(media_id="b", user_id=TENANT, content="x " * (limit // 2 + 1)),
    ]
    with pytest.raises(QuotaExceeded, match="media `b`") as refused:
        await manager.create_jobs(given)
    assert (refused.value.limit, refused.value.used, refused.value.retry_after) == (limit, 0, None)
    assert await manager.list_jobs(TENANT) == []


async def test_a_document_may_come_twice_in_one_call(manager: EmbeddingJobManager) -> None:
    texts = ["first", "second", "second"]
    given = [JobRequest(media_id="a", user_id=TENANT, content=text) for text in texts]
    first, second, again = await manager.create_jobs(given)
    assert again == second
    assert (await manager.get_job_status(first)).reason == "superseded"
    newest = await manager.get_job_status(second)
    assert (newest.status, newest.generation) == (JobStatus.PENDING, 2)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_file_is_submitted_by_its_path_or_its_bytes(
    manager: EmbeddingJobManager, tmp_path: Path
) -> None:
    file = tmp_path / "notes.md"
    file.write_text("# Title\n\nSome text.")
    try:
        by_path = await manager.create_job_from_file(file, media_id=1, user_id=TENANT)
        by_bytes = await manager.create_job_from_file(
            file.read_bytes(), name="Notes.MD", media_id=2, user_id=TENANT, source="mail:5"
        )
        with pytest.raises(InvalidRequest, match=r"name: is missing.*report\.pdf") as refused:
            await manager.create_job_from_file(b"text", media_id=3, user_id=TENANT)
        assert refused.value.field == "name"
        with pytest.raises(ParseError, match=r"broken\.pdf"):
            await manager.create_job_from_file(b"%PDF-", name="broken.pdf", media_id=3, user_id=TENANT)
    finally:
        await manager.close()
    first, second = [await manager.get_job_status(job_id) for job_id in (by_path, by_bytes)]
    assert (first.source, second.source) == (str(file), "mail:5")
    assert first.chars == second.chars > 0
    listed = await manager.of(TENANT).list_documents()
    assert [(one.media_id, one.source, one.state) for one in listed] == [
        ("1", str(file), DocumentState.BUILDING),
        ("2", "mail:5", DocumentState.BUILDING),
    ]
