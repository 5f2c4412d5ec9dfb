"""What SQL says of unfinished jobs, whatever the broker says."""

from __future__ import annotations

import re
from pathlib import Path

from loguru import logger
from sqlalchemy import Connection, text

from embedfleet.bootstrap import open_guest
from embedfleet.clock import ManualClock, SystemClock
from embedfleet.leader.unfinished_work import UnfinishedWork
from embedfleet.leader.work_summary import WorkSummary
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import events, job_completion, jobs
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
            job_completion.finish(conn, [first], JobStatus.FAILED, reason="a test", now=1.0)
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


async def test_the_log_sums_up_what_ended_and_what_is_left(tmp_path: Path) -> None:
    environ = {"EMBEDFLEET_DATA_DIR": str(tmp_path), "EMBEDFLEET_MODELS__DEFAULT": "stub"}
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line).rstrip()), format="{message}", level="INFO")
    try:
        async with open_guest(load_settings(environ=environ)) as guest:
            clock = ManualClock(SystemClock().now())
            summary = WorkSummary(database=guest.database, clock=clock)
            await summary.step()
            await summary.step()
            assert lines == [], "nothing ended, and nothing is left"
            job_ids = [
                await guest.jobs.create_job(media_id=name, user_id="local", content=f"text {name}")
                for name in ("a", "b", "c")
            ]

            def end_two(conn: Connection) -> None:
                jobs.lock_many(conn, job_ids[:2])
                job_completion.finish(conn, job_ids[:2], JobStatus.FAILED, reason="a test", now=clock.now())
                events.assign_positions(conn, 10)

            await guest.database.write(end_two)
            clock.advance(300)
            await summary.step()
            clock.advance(300)
            await summary.step()
    finally:
        logger.remove(sink)
    assert [re.sub(r"for \d+ s", "for N s", line) for line in lines] == [
        "in 300 s: 2 jobs failed, 0 chunks stored; 1 jobs are unfinished, the oldest for N s",
        "in 300 s: no job ended; 1 jobs are unfinished, the oldest for N s",
    ]
