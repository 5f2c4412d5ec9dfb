"""Dead letters: none lost, none counted twice, and what an operator may do about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, select

from embedfleet.errors import InvalidRequest, UnknownDeadLetter, UnknownJob
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.queue_schemas import DeadLetterInfo, JobStatus, Stage, UserTier
from embedfleet.records import dead_letters, generations, job_completion, jobs
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import NewJob
from embedfleet.sql import tables
from embedfleet.sql.database import Database
from support.system import Configure

NOW = 1_700_000_000.0
BAD = DeadLetter(Stage.EMBEDDING, "bad", 0, 3, 10, 20)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, synchronous="normal")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def manager(configure: Configure, database: Database) -> EmbeddingJobManager:
    """Without workers: letters stay until the test does something about them."""
    return EmbeddingJobManager(JobManagerConfig(settings=configure()), database=database)


async def failed_job(manager: EmbeddingJobManager, database: Database, media_id: str, tenant: str) -> str:
    """A job that ended with one dead letter of its first chunk."""
    job_id = await manager.create_job(media_id=media_id, user_id=tenant, content=f"text of {media_id}")

    def fail(conn: Connection) -> None:
        job = jobs.lock(conn, job_id)
        assert job is not None
        dead_letters.add(conn, {job_id: [DeadLetter(Stage.EMBEDDING, "bad", 0, 0, 0, 4)]}, NOW)
        job_completion.finish(conn, [job_id], JobStatus.FAILED, reason="1 of 1 chunks failed", now=NOW)
        generations.abandon(conn, [job.generation_id])

    await database.write(fail)
    return job_id


async def only_letter(manager: EmbeddingJobManager, job_id: str) -> DeadLetterInfo:
    (letter,) = await manager.of_all_tenants().list_dead_letters(job_id=job_id, ended=True)
    return letter


def new_job(conn: Connection) -> None:
    job = NewJob(
        job_id="j",
        tenant="alice",
        document_id="d",
        generation_id=1,
        user_tier=UserTier.FREE,
        priority=50,
        created_at=NOW,
    )
    jobs.create(conn, [job])


def history(conn: Connection) -> list[tuple[int, str | None, float | None]]:
    letters = tables.dead_letters
    rows = conn.execute(select(letters).order_by(letters.c.dead_letter_id))
    return [(row.run, row.ended, row.ended_at) for row in rows]


async def test_a_chunk_given_up_twice_in_one_run_has_one_letter(database: Database) -> None:
    def give_up_twice(conn: Connection) -> list[DeadLetter]:
        new_job(conn)
        dead_letters.add(conn, {"j": [BAD]}, NOW)
        dead_letters.add(conn, {"j": [BAD, DeadLetter(Stage.EMBEDDING, "other", 0, 4, 20, 30)]}, NOW + 1)
        return dead_letters.of_job(conn, "j")

    assert [(letter.reason, letter.chunk_index) for letter in await database.write(give_up_twice)] == [
        ("bad", 3),
        ("other", 4),
    ]


async def test_a_retry_ends_the_letters_and_keeps_them_as_history(database: Database) -> None:
    def retry(conn: Connection) -> None:
        new_job(conn)
        dead_letters.add(conn, {"j": [BAD]}, NOW)
        job_completion.reopen(conn, "j", NOW + 5)
        assert dead_letters.of_job(conn, "j") == []
        dead_letters.add(conn, {"j": [BAD]}, NOW + 6)

    await database.write(retry)
    assert await database.read(lambda conn: dead_letters.of_job(conn, "j")) == [BAD]
    assert await database.read(history) == [(1, "requeued", NOW + 5), (2, None, None)]


async def test_a_chunk_that_dies_again_after_its_document_was_cut_anew_is_still_named(
    database: Database,
) -> None:
    def cut_anew(conn: Connection) -> list[DeadLetter]:
        new_job(conn)
        dead_letters.add(conn, {"j": [BAD]}, NOW)
        jobs.restart_partition(conn, "j", NOW + 1)
        assert dead_letters.of_job(conn, "j") == []
        moved = DeadLetter(Stage.EMBEDDING, "bad", 0, 3, 12, 24)
        dead_letters.add(conn, {"j": [moved]}, NOW + 2)
        return dead_letters.of_job(conn, "j")

    assert await database.write(cut_anew) == [DeadLetter(Stage.EMBEDDING, "bad", 0, 3, 12, 24)]


async def test_a_letter_says_where_it_belongs_and_never_the_text(
    manager: EmbeddingJobManager, database: Database
) -> None:
    job_id = await failed_job(manager, database, "book", "alice")
    letter = await only_letter(manager, job_id)
    assert await manager.of("alice").get_dead_letter(letter.dead_letter_id) == letter
    assert (letter.media_id, letter.start, letter.end, letter.reason) == ("book", 0, 4, "bad")
    assert (letter.job_id, letter.run, letter.stage, letter.ended) == (job_id, 1, Stage.EMBEDDING, None)
    assert "text of" not in letter.model_dump_json()


async def test_lists_are_narrowed_down_by_tenant_job_and_stage(
    manager: EmbeddingJobManager, database: Database
) -> None:
    first = await failed_job(manager, database, "1", "alice")
    second = await failed_job(manager, database, "2", "alice")
    await failed_job(manager, database, "3", "bob")
    hers = await manager.of("alice").list_dead_letters()
    assert [letter.job_id for letter in hers] == [second, first]
    assert [one.job_id for one in await manager.of_all_tenants().list_dead_letters(job_id=first)] == [first]
    assert await manager.of_all_tenants().list_dead_letters(stage=Stage.STORAGE) == []
    assert len(await manager.of_all_tenants().list_dead_letters(limit=2)) == 2


async def test_a_foreign_letter_is_as_unknown_as_one_that_never_was(
    manager: EmbeddingJobManager, database: Database
) -> None:
    job_id = await failed_job(manager, database, "1", "alice")
    letter = await only_letter(manager, job_id)
    messages = set()
    for dead_letter_id in (letter.dead_letter_id, 2**80, 0):
        for act in (
            manager.of("bob").get_dead_letter(dead_letter_id),
            manager.of("bob").requeue_dead_letters([dead_letter_id]),
            manager.of("bob").purge_dead_letters([dead_letter_id]),
        ):
            with pytest.raises(UnknownDeadLetter) as caught:
                await act
            messages.add(str(caught.value).replace(f"`{dead_letter_id}`", "ID"))
    assert len(messages) == 1
    for by_job in (
        manager.of("bob").requeue_dead_letters(job_id=job_id),
        manager.of("bob").purge_dead_letters(job_id=job_id),
    ):
        with pytest.raises(UnknownJob):
            await by_job
    assert await manager.of("bob").purge_dead_letters(before=datetime.now(UTC)) == 0
    assert await only_letter(manager, job_id) == letter


async def test_requeueing_gives_the_job_a_new_run_once(
    manager: EmbeddingJobManager, database: Database
) -> None:
    job_id = await failed_job(manager, database, "1", "alice")
    assert (await manager.of_all_tenants().requeue_dead_letters(job_id=job_id)).jobs == (job_id,)
    job = await database.read(lambda conn: jobs.get(conn, job_id))
    assert job is not None
    assert (job.status, job.run, job.offered_at) == (JobStatus.PENDING, 2, None)
    letter = await only_letter(manager, job_id)
    assert letter.ended == "requeued"
    assert letter.ended_at is not None
    for again in (
        manager.of_all_tenants().requeue_dead_letters(job_id=job_id),
        manager.of_all_tenants().requeue_dead_letters([letter.dead_letter_id]),
    ):
        with pytest.raises(InvalidRequest, match="no dead letter is left"):
            await again


async def test_what_cannot_run_again_is_refused_by_job_and_the_rest_runs(
    manager: EmbeddingJobManager, database: Database
) -> None:
    fine = await failed_job(manager, database, "fine", "alice")
    superseded = await failed_job(manager, database, "superseded", "alice")
    deleted = await failed_job(manager, database, "deleted", "alice")
    await manager.create_job(media_id="superseded", user_id="alice", content="a newer text")
    await manager.of("alice").delete_document(media_id="deleted")
    ids = [letter.dead_letter_id for letter in await manager.of_all_tenants().list_dead_letters()]
    done = await manager.of_all_tenants().requeue_dead_letters(ids)
    reasons = {one.job_id: one.reason for one in done.refused}
    assert done.jobs == (fine,)
    assert "newer version" in reasons[superseded]
    assert "deleted" in reasons[deleted]
    for refused in (superseded, deleted):
        assert (await only_letter(manager, refused)).ended is None
        with pytest.raises(InvalidRequest):
            await manager.of_all_tenants().requeue_dead_letters(job_id=refused)


async def test_a_job_of_a_deleted_document_cannot_be_retried(
    manager: EmbeddingJobManager, database: Database
) -> None:
    job_id = await failed_job(manager, database, "1", "alice")
    await manager.of("alice").delete_document(media_id="1")
    with pytest.raises(InvalidRequest, match="deleted"):
        await manager.of("alice").retry(job_id)


async def test_a_purged_letter_is_open_no_more_and_its_job_still_names_what_is_missing(
    manager: EmbeddingJobManager, database: Database
) -> None:
    job_id = await failed_job(manager, database, "1", "alice")
    letter = await only_letter(manager, job_id)
    assert await manager.of("alice").purge_dead_letters([letter.dead_letter_id]) == 1
    assert await manager.of_all_tenants().purge_dead_letters(job_id=job_id) == 0
    assert await manager.of_all_tenants().list_dead_letters() == []
    assert (await only_letter(manager, job_id)).ended == "purged"
    assert len(await database.read(lambda conn: dead_letters.of_job(conn, job_id))) == 1


async def test_purging_by_age_takes_the_old_ones_only(
    manager: EmbeddingJobManager, database: Database
) -> None:
    await failed_job(manager, database, "1", "alice")
    moment = datetime.fromtimestamp(NOW, UTC)
    assert await manager.of_all_tenants().purge_dead_letters(before=moment) == 0
    assert await manager.of_all_tenants().purge_dead_letters(before=moment + timedelta(seconds=1)) == 1


async def test_letters_are_named_in_one_way_only(manager: EmbeddingJobManager) -> None:
    with pytest.raises(InvalidRequest, match="exactly one of ids, job_id, before"):
        await manager.of_all_tenants().purge_dead_letters()
    with pytest.raises(InvalidRequest, match="got ids, job_id"):
        await manager.of_all_tenants().requeue_dead_letters([1], job_id="j")
