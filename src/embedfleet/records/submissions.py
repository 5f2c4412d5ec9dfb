"""The jobs that were submitted together, by their ids from `first` to `last`, both included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from embedfleet.queue_schemas import JobStatus
from embedfleet.records.jobs import UNFINISHED, Job, job_of
from embedfleet.records.scope import Scope
from embedfleet.sql.tables import jobs

IdRange = tuple[str, str]
"""The first and the last id."""

_NOT_ALL_FOUND = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.COMPLETED_WITH_ERRORS)


def any_at(conn: Connection, scope: Scope, ids: IdRange) -> bool:
    """Whether a job within the scope is between the ids."""
    return bool(_some(conn, scope, ids, jobs.c.job_id.is_not(None), 1))


def unfinished_at(conn: Connection, scope: Scope, ids: IdRange, limit: int) -> list[Job]:
    """Return up to `limit` jobs within the scope and between the ids that have not ended, oldest first."""
    return [job_of(row) for row in _some(conn, scope, ids, UNFINISHED, limit)]


def not_all_found_at(conn: Connection, scope: Scope, ids: IdRange, limit: int) -> list[Job]:
    """Return up to `limit` jobs within the scope and between the ids that ended, and not as completed."""
    ended_so = jobs.c.status.in_(_NOT_ALL_FOUND)
    return [job_of(row) for row in _some(conn, scope, ids, ended_so, limit)]


def _some(
    conn: Connection, scope: Scope, ids: IdRange, which: ColumnElement[bool], limit: int
) -> Sequence[Row[Any]]:
    between = jobs.c.job_id.between(*ids)
    query = select(jobs).where(between, scope.rows(jobs.c.tenant), which)
    return conn.execute(query.order_by(jobs.c.job_id).limit(limit)).all()
