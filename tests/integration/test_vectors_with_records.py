"""Vectors in the database of the records: both are there, or neither, whatever stops in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection

from embedfleet.errors import Transient
from embedfleet.lifecycle import storing
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.settings import Settings
from support.databases import PostgresDatabases
from support.postgres_server import PostgresServer
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.statements import statements
from support.system import (
    ONE_EACH,
    TENANT,
    all_at_the_end,
    make_settings,
    paragraphs,
    running,
    take_ledger,
    until,
)

PGVECTOR = {"vector_store": {"kind": "pgvector"}}
SMALL_BATCHES: dict[str, Any] = {"chunking": {"batch_chunks": 4}}

# Of one moment, as it is one statement. A row of the store without a record, or the other way round.
ALONE = """
SELECT count(*) FROM (SELECT encode(chunk_id, 'hex') AS id FROM vectors) AS recorded
FULL JOIN embedfleet_vectors.vectors AS held USING (id)
FULL JOIN embedfleet_vectors.texts AS described USING (id)
WHERE recorded.id IS NULL OR held.id IS NULL OR described.id IS NULL
"""
UNRECORDED = """
SELECT count(*) FROM embedfleet_vectors.vectors AS held
WHERE NOT EXISTS (SELECT FROM vectors WHERE encode(chunk_id, 'hex') = held.id)
"""
UNHELD = """
SELECT count(*) FROM vectors WHERE state = 'stored'
AND NOT EXISTS (SELECT FROM embedfleet_vectors.vectors AS held WHERE held.id = encode(chunk_id, 'hex'))
"""
HELD = "SELECT count(*) FROM embedfleet_vectors.vectors"
"""Of small collections: no test here has others."""
CHUNKS = "SELECT count(*) FROM chunks"


def ask(url: str, query: str) -> int:
    with psycopg.connect(url) as conn:
        row = conn.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def pg_settings(tmp_path: Path, postgres_url: str) -> Settings:
    return make_settings(tmp_path, database_url=postgres_url, **PGVECTOR, **SMALL_BATCHES)


class Stopped(Exception):
    """Ends a unit after its last statement, before it is committed."""


def stop_before_commit(monkeypatch: pytest.MonkeyPatch, how: Any) -> list[int]:
    """Call `how` once, when a unit that stores has written and recorded all. Returns its list of calls."""
    really, calls = storing._count, list[int]()

    def count(conn: Connection, *rest: Any) -> None:
        really(conn, *rest)
        if not calls:
            calls.append(conn.exec_driver_sql(HELD).scalar_one())
            how()

    monkeypatch.setattr(storing, "_count", count)
    return calls


async def up_to_storage(stages: StagesByHand) -> list[str]:
    job_ids = await stages.submit([(TENANT, "1", paragraphs("a", 6)), ("bob", "2", paragraphs("b", 3))])
    while await stages.do(Stage.CHUNKING, 4):
        pass
    assert await stages.do(Stage.EMBEDDING, 10)
    return job_ids


async def test_a_unit_that_is_undone_leaves_neither_and_the_next_try_writes_both(
    pg_settings: Settings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise Stopped

    written = stop_before_commit(monkeypatch, stop)
    async with stages_by_hand(pg_settings) as stages:
        job_ids = await up_to_storage(stages)
        leases = await stages.claim(Stage.STORAGE, 10)
        with pytest.raises(Stopped):
            await stages.loops[Stage.STORAGE].process(leases, all_at_the_end)
        assert written == [ask(postgres_url, CHUNKS)], "all rows were written when it was stopped"
        assert ask(postgres_url, HELD) == ask(postgres_url, "SELECT count(*) FROM vectors") == 0
        assert await stages.loops[Stage.STORAGE].process(leases, all_at_the_end) == {}
        assert set(await stages.statuses(job_ids)) == {JobStatus.COMPLETED}
        assert ask(postgres_url, ALONE) == 0
        assert ask(postgres_url, HELD) == written[0]
        (await take_ledger(stages.system)).assert_exact()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


async def test_neither_is_there_after_a_crash_of_the_server_before_the_commit(
    tmp_path: Path, own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresDatabases(own_server).migrated() as url:
        settings = make_settings(tmp_path, database_url=url, **PGVECTOR, **SMALL_BATCHES)
        written = stop_before_commit(monkeypatch, own_server.crash)
        async with stages_by_hand(settings) as stages:
            job_ids = await up_to_storage(stages)
            leases = await stages.claim(Stage.STORAGE, 10)
            with pytest.raises(Transient):
                await stages.loops[Stage.STORAGE].process(leases, all_at_the_end)
            own_server.start()
            assert written == [ask(url, CHUNKS)]
            assert ask(url, HELD) == ask(url, "SELECT count(*) FROM vectors") == 0
            assert await stages.loops[Stage.STORAGE].process(leases, all_at_the_end) == {}
            assert set(await stages.statuses(job_ids)) == {JobStatus.COMPLETED}
            own_server.crash()
            own_server.start()
            assert ask(url, ALONE) == 0
            assert ask(url, HELD) == written[0]
            (await take_ledger(stages.system)).assert_exact()


async def test_at_every_moment_of_a_run_the_store_has_the_rows_that_are_recorded(
    pg_settings: Settings, postgres_url: str
) -> None:
    """Documents are stored, replaced and deleted. A row that is marked for deletion may be gone already."""
    looks: list[int] = []
    async with running(pg_settings) as fleet:
        first = [
            await fleet.submit(f"{n}", paragraphs(f"d{n}", 12), chunking_config=ONE_EACH) for n in range(6)
        ]

        async def all_ended() -> bool:
            looks.append(ask(postgres_url, UNRECORDED))
            looks.append(ask(postgres_url, UNHELD))
            infos = await fleet.jobs.of_all_tenants().statuses(job_ids)
            return all(info.status.terminal for info in infos)

        job_ids = list(first)
        await until(all_ended, fleet.system.database)
        job_ids.append(await fleet.submit("0", paragraphs("new", 5), chunking_config=ONE_EACH))
        await fleet.jobs.of(TENANT).delete_document(media_id="1")
        await until(all_ended, fleet.system.database)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
    assert len(looks) > 10
    assert set(looks) == {0}
    assert ask(postgres_url, ALONE) == 0


async def test_the_statements_of_a_claim_do_not_grow_with_its_tasks(pg_settings: Settings) -> None:
    counts = []
    async with stages_by_hand(pg_settings) as stages:
        for name, tasks in (("first", 1), ("few", 4), ("many", 32)):
            await stages.submit([(TENANT, f"{name}{n}", f"words of {name} {n}") for n in range(tasks)])
            for stage in (Stage.CHUNKING, Stage.EMBEDDING):
                assert await stages.do(stage, tasks) == tasks
            with statements() as executed:
                assert await stages.do(Stage.STORAGE, tasks) == tasks
            counts.append(len(executed))
    assert counts[1] == counts[2]
