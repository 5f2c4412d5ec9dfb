"""What SQL says of unfinished jobs, whatever the broker says."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text

from embedfleet.bootstrap import open_guest
from embedfleet.clock import ManualClock
from embedfleet.leader.unfinished_work import UnfinishedWork
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import jobs
from embedfleet.settings import load_settings


def _told(metrics: Metrics) -> tuple[float | None, float | None]:
    value = metrics.registry.get_sample_value
    return value("embedding_unfinished_jobs", {"status": "pending"}), value(
        "embedding_oldest_unfinished_job_age_seconds"
    )


async def test_the_leader_tells_unfinished_jobs_and_the_age_of_the_oldest_by_an_index(tmp_path: Path) -> None:
    environ = {"EMBEDFLEET_DATA_DIR": str(tmp_path), "EMBEDFLEET_MODELS__DEFAULT": "stub"}
    metrics, clock = Metrics(), ManualClock()
    async with open_guest(load_settings(environ=environ)) as guest:
        first, second = [
            await guest.jobs.create_job(media_id=name, user_id="local", content=f"text {name}")
            for name in ("a", "b")
        ]

        def fail_first(conn: Connection) -> float:
            jobs.lock(conn, first)
            jobs.finish(conn, [first], JobStatus.FAILED, reason="a test", now=1.0)
            job = jobs.get(conn, second)
            assert job is not None
            return job.created_at

        duty = UnfinishedWork(database=guest.database, metrics=metrics, clock=clock)
        created = await guest.database.write(fail_first)
        clock.advance(created + 90 - clock.now())
        await duty.step()
        assert _told(metrics) == (1, 90)

        def plan(conn: Connection) -> str:
            sql = "SELECT status FROM jobs WHERE finished_at IS NULL ORDER BY job_id LIMIT 100000"
            return str(conn.execute(text(f"EXPLAIN QUERY PLAN {sql}")).all())

        assert "ix_jobs_unfinished_by_id" in await guest.database.read(plan)
        duty.deposed()
        assert _told(metrics) == (0, 0)
