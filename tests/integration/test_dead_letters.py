"""Letters of a job over its runs: none lost, none counted twice."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, select

from embedfleet.queue_schemas import Stage, UserTier
from embedfleet.storage import dead_letters, jobs, tables
from embedfleet.storage.database import Database
from embedfleet.storage.dead_letters import DeadLetter

NOW = 1_700_000_000.0
BAD = DeadLetter(Stage.EMBEDDING, "bad", 0, 3, 10, 20)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, synchronous="normal")
    await opened.open()
    yield opened
    await opened.close()


def new_job(conn: Connection) -> None:
    jobs.create(
        conn,
        job_id="j",
        tenant_id="alice",
        document_id="d",
        generation_id=1,
        user_tier=UserTier.FREE,
        priority=50,
        now=NOW,
    )


def history(conn: Connection) -> list[tuple[int, str | None, float | None]]:
    letters = tables.dead_letters
    rows = conn.execute(select(letters).order_by(letters.c.dead_letter_id))
    return [(row.run, row.ended, row.ended_at) for row in rows]


async def test_a_chunk_given_up_twice_in_one_run_has_one_letter(database: Database) -> None:
    def give_up_twice(conn: Connection) -> list[DeadLetter]:
        new_job(conn)
        dead_letters.add(conn, "j", [BAD], NOW)
        dead_letters.add(conn, "j", [BAD, DeadLetter(Stage.EMBEDDING, "other", 0, 4, 20, 30)], NOW + 1)
        return dead_letters.of_job(conn, "j")

    assert [(letter.reason, letter.chunk_index) for letter in await database.write(give_up_twice)] == [
        ("bad", 3),
        ("other", 4),
    ]


async def test_a_retry_ends_the_letters_and_keeps_them_as_history(database: Database) -> None:
    def retry(conn: Connection) -> None:
        new_job(conn)
        dead_letters.add(conn, "j", [BAD], NOW)
        jobs.reopen(conn, "j", NOW + 5)
        assert dead_letters.of_job(conn, "j") == []
        dead_letters.add(conn, "j", [BAD], NOW + 6)

    await database.write(retry)
    assert await database.read(lambda conn: dead_letters.of_job(conn, "j")) == [BAD]
    assert await database.read(history) == [(1, "requeued", NOW + 5), (2, None, None)]


async def test_a_chunk_that_dies_again_after_its_document_was_cut_anew_is_still_named(
    database: Database,
) -> None:
    def cut_anew(conn: Connection) -> list[DeadLetter]:
        new_job(conn)
        dead_letters.add(conn, "j", [BAD], NOW)
        jobs.restart_partition(conn, "j", NOW + 1)
        assert dead_letters.of_job(conn, "j") == []
        moved = DeadLetter(Stage.EMBEDDING, "bad", 0, 3, 12, 24)
        dead_letters.add(conn, "j", [moved], NOW + 2)
        return dead_letters.of_job(conn, "j")

    assert await database.write(cut_anew) == [DeadLetter(Stage.EMBEDDING, "bad", 0, 3, 12, 24)]
