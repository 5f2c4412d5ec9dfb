"""Counts how often a process has died while it had a task in hand.

This is needed only for queues inside that process: they lose their own counts of attempts when it dies.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, select

from embedfleet.sql.tables import deaths, jobs
from embedfleet.sql.upsert import upsert


def count(conn: Connection, tasks: Iterable[tuple[str, str, str]]) -> None:
    """Count one more death for each of these (stage, task id, job id)."""
    for stage, task_id, job_id in tasks:
        statement = upsert(conn.dialect.name, deaths).values(
            stage=stage, task_id=task_id, job_id=job_id, deaths=1
        )
        more = {"deaths": deaths.c.deaths + 1}
        conn.execute(statement.on_conflict_do_update(index_elements=["stage", "task_id"], set_=more))


def of_unfinished_jobs(conn: Connection) -> dict[tuple[str, str], int]:
    """Return the number of deaths by (stage, task id). Drop the rows of jobs that have ended."""
    unfinished = select(jobs.c.job_id).where(jobs.c.job_id == deaths.c.job_id, jobs.c.finished_at.is_(None))
    conn.execute(delete(deaths).where(~unfinished.exists()))
    return {(row.stage, row.task_id): row.deaths for row in conn.execute(select(deaths))}
