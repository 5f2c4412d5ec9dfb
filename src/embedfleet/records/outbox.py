"""What is written down for the leader to do: jobs to offer, leftovers, questions, events to number."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, literal_column, select

from embedfleet.sql.tables import documents, events, jobs, searches


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whether there is any of each."""

    jobs: bool
    cleanups: bool
    searches: bool
    events: bool


def waiting(conn: Connection) -> Waiting:
    """One statement, answered from indexes that hold only what waits."""
    return Waiting(*map(bool, conn.execute(_WAITING).one()))


_WAITING = select(
    select(jobs.c.job_id).where(jobs.c.offered_at.is_(None), jobs.c.finished_at.is_(None)).exists(),
    # Spelled out: SQLite does not see that a parameter is the index's 0.
    select(documents.c.document_id).where(documents.c.cleanup > literal_column("0")).exists(),
    select(searches.c.search_id).where(searches.c.response.is_(None)).exists(),
    select(events.c.event_id).where(events.c.position.is_(None)).exists(),
)
