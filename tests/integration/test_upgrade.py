"""A database of release 0.1 with jobs in flight: upgraded, every job ends and readers are served."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from embedfleet.bootstrap import open_guest
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import events
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from support import old_release
from support.databases import PostgresDatabases
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, TENANT, make_settings, paragraphs, running, take_ledger, until

CHUNKS = 12
BATCH = {"batch_chunks": 4}

_UNFINISHED = """
UPDATE documents SET live_generation = NULL WHERE media_id = :media;
UPDATE generations SET state = 'building' WHERE document_id = :document;
DELETE FROM vectors WHERE chunk_id IN
    (SELECT chunk_id FROM chunks WHERE generation_id = :generation AND chunk_index >= 4);
"""
_CHUNKING = """
UPDATE jobs SET status = 'chunking', finished_at = NULL, sealed = 0, coverage = NULL, batches_total = 0,
    batches_embedded = 1, batches_done = 1, chunks_total = 8, chunks_embedded = 4, chunks_stored = 4
    WHERE job_id = :job;
DELETE FROM batches WHERE job_id = :job AND ordinal = 2;
UPDATE batches SET state = 'pending' WHERE job_id = :job AND ordinal = 1;
DELETE FROM chunks WHERE generation_id = :generation AND chunk_index >= 8;
"""
_EMBEDDING = """
UPDATE jobs SET status = 'embedding', finished_at = NULL, batches_embedded = 2, batches_done = 1,
    chunks_embedded = 8, chunks_stored = 4 WHERE job_id = :job;
UPDATE batches SET state = 'embedded' WHERE job_id = :job AND ordinal = 1;
UPDATE batches SET state = 'pending' WHERE job_id = :job AND ordinal = 2;
"""
_ONE_DEAD = """
UPDATE jobs SET status = 'completed_with_errors', reason = '1 of 12 chunks failed', chunks_dead = 1,
    chunks_stored = 11 WHERE job_id = :job;
UPDATE batches SET dead = 1 WHERE job_id = :job AND ordinal = 1;
DELETE FROM vectors WHERE chunk_id =
    (SELECT chunk_id FROM chunks WHERE generation_id = :generation AND chunk_index = 5);
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'embedfleet.db'}"
        return
    servers: PostgresDatabases = request.getfixturevalue("postgres_databases")
    with servers.empty() as url:
        yield url


async def leave_jobs_in_flight(settings: Settings) -> dict[str, str]:
    """Job ids by document: what each was doing when the old release was stopped is its name."""
    async with running(settings) as fleet:
        made = {
            name: (await fleet.ingest(name, paragraphs(name, CHUNKS), chunking_config=ONE_EACH)).job_id
            for name in ("live", "chunking", "embedding", "dead", "deleted")
        }
    async with open_guest(settings) as guest:
        made["pending"] = await guest.jobs.create_job(
            media_id="pending",
            user_id=TENANT,
            content=paragraphs("pending", CHUNKS),
            chunking_config=ONE_EACH,
        )
        await guest.jobs.of(TENANT).delete_document(media_id="deleted")
    with closing(sqlite3.connect(settings.data_dir / "embedfleet.db")) as conn, conn:
        for name, script in (
            ("chunking", _UNFINISHED + _CHUNKING),
            ("embedding", _UNFINISHED + _EMBEDDING),
            ("dead", _ONE_DEAD),
        ):
            query = "SELECT document_id, generation_id FROM jobs WHERE job_id = ?"
            document, generation = conn.execute(query, [made[name]]).fetchone()
            names = {"media": name, "document": document, "generation": generation, "job": made[name]}
            for statement in script.split(";")[:-1]:
                conn.execute(statement, names)
    return made


def dead_letter(job_id: str) -> dict[str, object]:
    return {
        "tenant_id": TENANT,
        "job_id": job_id,
        "stage": "embedding",
        "ordinal": 1,
        "chunk_index": 5,
        "start": 100,
        "end": 200,
        "reason": "cannot stand this text",
        "created_at": 1.0,
    }


async def test_jobs_in_flight_of_the_old_release_end_under_the_new_schema(
    old_url: str, tmp_path: Path
) -> None:
    embedded = make_settings(tmp_path, chunking=BATCH)
    job_ids = await leave_jobs_in_flight(embedded)
    source = (embedded.data_dir / "embedfleet.db").rename(tmp_path / "source.db")
    (embedded.data_dir / "chroma" / "embedfleet-system.json").unlink()  # that release left no mark
    old_release.build(old_url, source, [dead_letter(job_ids["dead"])])
    if old_url.startswith("postgresql"):  # SQLite upgrades itself when it is opened
        database = Database(old_url)
        assert await database.upgrade_schema() == ("0002", "0010")
        await database.close()
    settings = make_settings(tmp_path, chunking=BATCH, database_url=old_url)
    async with running(settings) as fleet:
        hits = await fleet.system.search.search(TENANT, SearchRequest(query="live paragraph", limit=100))
        assert {"live", "dead"} <= {hit.media_id for hit in hits}
        assert "deleted" not in {hit.media_id for hit in hits}
        for name in ("chunking", "embedding", "pending"):
            info = await fleet.jobs.wait(job_ids[name], timeout_seconds=HANG_SECONDS)
            assert (info.status, info.progress.chunks_stored) == (JobStatus.COMPLETED, CHUNKS), name
        (letter,) = await fleet.jobs.of(TENANT).list_dead_letters()
        assert (letter.run, letter.ended, letter.media_id) == (1, None, "dead")
        await fleet.jobs.of_all_tenants().requeue_dead_letters([letter.dead_letter_id])
        again = await fleet.jobs.wait(job_ids["dead"], timeout_seconds=HANG_SECONDS)
        assert (again.status, again.missing) == (JobStatus.COMPLETED, ())
        new = await fleet.ingest("new", paragraphs("new", 3), chunking_config=ONE_EACH)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()

        async def all_told() -> bool:
            return not await fleet.system.database.read(events.any_unnumbered)

        await until(all_told, fleet.system.database)
        told = [event.event_id for event in await fleet.jobs.of_all_tenants().events()]
    ended = [f"{job_ids[name]}:1" for name in ("chunking", "embedding", "pending")]
    assert sorted(told) == sorted([*ended, f"{job_ids['dead']}:2", f"{new.job_id}:1"])
