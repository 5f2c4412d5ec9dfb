"""A fleet of two servers: Redis, and PostgreSQL with the records and the vectors."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from embedfleet.queue_schemas import JobStatus, Stage
from support.databases import PostgresDatabases
from support.fleet import QUICK_LEASES, Fleet, ended, more_stored, stored, submit_for
from support.hangs import eventually
from support.redis_server import RedisServer

# Rows of the store that no record names, and records of stored vectors without a row, in one statement.
APART = """
SELECT count(*) FROM (SELECT encode(chunk_id, 'hex') AS id FROM vectors) AS recorded
FULL JOIN embedfleet_vectors.vectors AS held USING (id) WHERE recorded.id IS NULL OR held.id IS NULL
"""

LOSE_A_ROW = """
DELETE FROM embedfleet_vectors.vectors WHERE id = (SELECT min(id) FROM embedfleet_vectors.vectors)
"""


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer, postgres_url: str) -> Fleet:
    return Fleet(
        tmp_path,
        {
            "data_dir": str(tmp_path / "unused"),
            "redis": {"url": redis_server.url},
            "database": {"url": postgres_url},
            "vector_store": {"kind": "pgvector"},
            "models": {"default": "stub"},
            "chunking": {"batch_chunks": 4},
            "worker_pools": QUICK_LEASES,
            "orchestrator": {"restart_backoff_seconds": 0.2},
        },
    )


def apart(url: str) -> int:
    with psycopg.connect(url) as conn:
        row = conn.execute(APART.encode()).fetchone()
    assert row is not None
    return int(row[0])


async def test_documents_are_ingested_searched_and_deleted(
    fleet: Fleet, corpus: Path, postgres_url: str
) -> None:
    with fleet.orchestrator():
        ingested = fleet.command("ingest", str(corpus))
        assert ingested.returncode == 0, ingested.stderr
        found = fleet.command("search", "cat", "--json")
        assert len(json.loads(found.stdout)["hits"]) == 2, found.stderr
        eventually(lambda: fleet.command("doctor").returncode == 0, what="a clean bill of health")
        gone = fleet.command("documents", "delete", str(corpus / "cats.md"))
        assert gone.returncode == 0, gone.stderr
        async with fleet.guest() as guest:
            (await fleet.ledger(guest)).assert_exact()
    assert apart(postgres_url) == 0


@pytest.mark.slow
async def test_a_lost_row_is_seen_and_mended_and_all_are_made_again(fleet: Fleet, postgres_url: str) -> None:
    with fleet.orchestrator() as one:
        async with fleet.guest() as guest:
            await ended(guest, await submit_for("alice", guest, "some", 2, 8))
        with psycopg.connect(postgres_url) as conn:
            conn.execute(LOSE_A_ROW)
        sick = fleet.command("doctor")
        assert sick.returncode == 1
        assert "lacks rows" in sick.stdout + sick.stderr
        assert fleet.command("verify").returncode == 3
        mended = fleet.command("verify", "--repair")
        assert apart(postgres_url) == 0, mended.stderr
        assert one.stop() == 0
    rebuilt = fleet.command("rebuild", "--yes")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert apart(postgres_url) == 0
    assert fleet.command("verify").returncode == 0


@pytest.mark.slow
async def test_a_restored_copy_of_the_database_has_its_vectors_without_a_rebuild(
    fleet: Fleet, postgres_url: str, postgres_databases: PostgresDatabases
) -> None:
    with fleet.orchestrator() as one:
        async with fleet.guest() as guest:
            await ended(guest, await submit_for("alice", guest, "alice", 1, 8))
        assert one.stop() == 0
    server = postgres_databases.server
    copy = server.create_database(template=postgres_url.partition("@/")[2].partition("?")[0])
    restored = {"url": server.url_of(copy)}
    config = fleet.write_config(database=restored, redis=fleet.config["redis"] | {"key_prefix": "copy"})
    moved = fleet.command("system", "move", "--yes", config=config)
    assert moved.returncode == 0, moved.stderr
    verified = fleet.command("verify", config=config)
    assert verified.returncode == 0, verified.stderr
    assert apart(restored["url"]) == 0
    server.drop_database(copy)


@pytest.mark.slow
async def test_killed_workers_lose_and_double_nothing(fleet: Fleet, postgres_url: str) -> None:
    with fleet.orchestrator() as one:
        async with fleet.guest() as guest:
            job_ids: list[str] = []
            for stage in (Stage.STORAGE, Stage.EMBEDDING):
                before = await stored(guest, job_ids)
                job_ids += await submit_for("alice", guest, stage.value, 2, 80)
                one.workers(stage)[0].kill()
                await more_stored(guest, job_ids, before)
                assert apart(postgres_url) == 0, "while workers write"
            infos = await ended(guest, job_ids)
            assert {(info.status, info.progress.chunks_stored) for info in infos} == {
                (JobStatus.COMPLETED, 80)
            }
            (await fleet.ledger(guest)).assert_exact()
    assert apart(postgres_url) == 0
