"""Looking at a job's batches. They move with their job, in `jobs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, tuple_

from embedfleet.sql.paging import pages
from embedfleet.sql.tables import BatchState, batches


@dataclass(frozen=True, slots=True)
class Batch:
    """Chunks [first_chunk, first_chunk + chunks) of the job's version."""

    ordinal: int
    first_chunk: int
    chunks: int
    state: BatchState = BatchState.PENDING


def batches_of(conn: Connection, job_id: str, ordinals: Sequence[int]) -> dict[int, Batch]:
    rows = conn.execute(_BATCHES_OF, {"job": job_id, "numbers": list(ordinals)})
    return {row.ordinal: _batch(row) for row in rows}


def batches_among(conn: Connection, named: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Batch]:
    """Those of these batches, (job id, ordinal), that exist."""
    found: dict[tuple[str, int], Batch] = {}
    for some in pages(named):
        for row in conn.execute(_BATCHES_AMONG, {"named": some}):
            found[row.job_id, row.ordinal] = _batch(row)
    return found


def _batch(row: Row[Any]) -> Batch:
    return Batch(row.ordinal, row.first_chunk, row.chunks, BatchState(row.state))


_BATCHES_OF = select(batches).where(
    batches.c.job_id == bindparam("job"), batches.c.ordinal.in_(bindparam("numbers", expanding=True))
)

_BATCHES_AMONG = select(batches).where(
    tuple_(batches.c.job_id, batches.c.ordinal).in_(bindparam("named", expanding=True))
)
