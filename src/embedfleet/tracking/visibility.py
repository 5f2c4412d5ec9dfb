"""Waits until searches find what was submitted at a position."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection

from embedfleet.errors import NotYetVisible, Remedy, UnknownJob
from embedfleet.positions import MissingJob, Position
from embedfleet.records import fleet, submissions
from embedfleet.records.scope import Scope
from embedfleet.records.submissions import IdRange
from embedfleet.sql.database import Database

# A position may stand for thousands of jobs. These many are named in an answer.
_MOST_NAMED = 20
# A client that waited in vain may ask again after this pause.
_RETRY_AFTER_SECONDS = 1.0


async def wait_until_visible(
    database: Database, scope: Scope, position: str, *, timeout_seconds: float, now: float
) -> list[MissingJob]:
    """Return when all jobs of the position have ended: a search that begins now finds what they made.

    The result names up to 20 jobs that searches do not find, or not all of, because they failed, were
    cancelled or lost chunks. Raises InvalidRequest for a text that is no position, UnknownJob if no job of
    the scope is there, and NotYetVisible after the timeout, which says what is missing.
    """
    parsed = Position.parse(position)
    wanted = (parsed.first, parsed.last)

    def all_ended(conn: Connection) -> bool:
        if not submissions.any_at(conn, scope, wanted):
            raise UnknownJob(
                f"no job at the position `{position}`: list the jobs to see which there are",
                remedy=Remedy.LIST_JOBS,
            )
        return not submissions.unfinished_at(conn, scope, wanted, 1)

    async def look() -> bool | None:
        return await database.read(all_ended) or None

    # A look without a limit of time comes first: a timeout of 0 s asks how it is now.
    if await look() is None:
        try:
            async with asyncio.timeout(timeout_seconds) as limit:
                await database.until(look)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            why = await database.read(lambda conn: _why_not(conn, scope, wanted, now))
            raise NotYetVisible(
                f"after {timeout_seconds:g} s searches do not find all of the position yet: {why}",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            ) from exc
    ended = await database.read(lambda conn: submissions.not_all_found_at(conn, scope, wanted, _MOST_NAMED))
    return [MissingJob(job_id=job.job_id, status=job.status, reason=job.reason) for job in ended]


def _why_not(conn: Connection, scope: Scope, ids: IdRange, now: float) -> str:
    """Say which jobs are missing, and what they wait for."""
    missing = submissions.unfinished_at(conn, scope, ids, _MOST_NAMED + 1)
    named = ", ".join(f"job {job.job_id} is `{job.status}`" for job in missing[:_MOST_NAMED])
    more = ", …" if len(missing) > _MOST_NAMED else ""
    waits = "" if fleet.any_running(conn, now) else "; no orchestrator is running with this database"
    return f"{named or 'they have ended by now'}{more}{waits}"
