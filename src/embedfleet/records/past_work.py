"""How long the latest jobs took, for estimates while no worker runs."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, func, select

from embedfleet.queue_schemas import JobStatus
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.sql.tables import chunks, collections, generations, jobs

# The jobs that are looked at: enough to even out single ones, and their chunks are read in milliseconds.
_JOBS = 50
# Some of the newest generations have no completed job yet.
_GENERATIONS = 500


def latest_jobs(conn: Connection, tenant: str) -> list[tuple[float, float, int]]:
    """Return (begun, ended, tokens embedded) of the tenant's latest jobs that embedded anything.

    Times are Unix seconds. The tokens are estimated from the share of chunks that were not reused.
    """
    return _latest(conn, jobs.c.tenant == tenant)


def latest_jobs_of_switch(conn: Connection, switch: ModelSwitch) -> list[tuple[float, float, int]]:
    """Return what `latest_jobs` does, of the jobs of a switch to another model."""
    return _latest(conn, jobs.c.tenant == switch.tenant, jobs.c.switch_id == switch.switch_id)


def latest_jobs_in_space(conn: Connection, space: str) -> list[tuple[float, float, int]]:
    """Return what `latest_jobs` does, of the jobs of all tenants with vectors of this space."""
    # The newest generations first, so that only a few of their jobs are looked at.
    newest = (
        select(generations.c.generation_id)
        .join(collections, collections.c.collection_id == generations.c.collection_id)
        .where(collections.c.space == space)
        .order_by(generations.c.generation_id.desc())
        .limit(_GENERATIONS)
    )
    return _latest(conn, jobs.c.generation_id.in_(newest))


def _latest(conn: Connection, *which: ColumnElement[bool]) -> list[tuple[float, float, int]]:
    query = select(jobs).where(
        *which,
        jobs.c.status == JobStatus.COMPLETED,
        jobs.c.chunks_total > jobs.c.chunks_reused,
        jobs.c.started_at.is_not(None),
    )
    found = conn.execute(query.order_by(jobs.c.created_at.desc()).limit(_JOBS)).all()
    sums = select(chunks.c.generation_id, func.sum(chunks.c.tokens)).group_by(chunks.c.generation_id)
    mine = sums.where(chunks.c.generation_id.in_([row.generation_id for row in found]))
    tokens = {generation_id: int(total) for generation_id, total in conn.execute(mine).all()}
    return [
        (
            row.started_at,
            row.finished_at,
            tokens.get(row.generation_id, 0) * (row.chunks_total - row.chunks_reused) // row.chunks_total,
        )
        for row in found
    ]
