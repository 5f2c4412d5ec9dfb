"""How long the latest jobs took, for estimates while no worker runs."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from embedfleet.queue_schemas import JobStatus
from embedfleet.sql.tables import chunks, jobs

# The jobs that are looked at: enough to even out single ones, and their chunks are read in milliseconds.
_JOBS = 50


def latest_jobs(conn: Connection, tenant: str) -> list[tuple[float, float, int]]:
    """Return (begun, ended, tokens embedded) of the tenant's latest jobs that embedded anything.

    Times are Unix seconds. The tokens are estimated from the share of chunks that were not reused.
    """
    query = select(jobs).where(
        jobs.c.tenant == tenant,
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
