"""The batches of a job, and the counters of the job that change with them.

Every transition is an UPDATE whose WHERE names the state that the batch leaves. The counters change only if
that UPDATE changed the batch. So a redelivered task or a stale worker counts nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, tuple_, update

from embedfleet.records import dead_letters
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import earliest_stage_left, is_unfinished_job
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import BatchState, batches, jobs


@dataclass(frozen=True, slots=True)
class Batch:
    """The chunks [first_chunk, first_chunk + chunks) of the job's generation."""

    ordinal: int
    first_chunk: int
    chunks: int
    state: BatchState = BatchState.PENDING


def batches_of(conn: Connection, job_id: str, ordinals: Sequence[int]) -> dict[int, Batch]:
    """Return the job's batches with these ordinals, by ordinal. Batches that do not exist are left out."""
    rows = conn.execute(_BATCHES_OF, {"job": job_id, "numbers": list(ordinals)})
    return {row.ordinal: _batch(row) for row in rows}


def batches_among(conn: Connection, named: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Batch]:
    """Return the batches with these (job id, ordinal), by that pair. Missing batches are left out."""
    found: dict[tuple[str, int], Batch] = {}
    for some in key_pages(named):
        for row in conn.execute(_BATCHES_AMONG, {"named": some}):
            found[row.job_id, row.ordinal] = _batch(row)
    return found


def add(conn: Connection, job_id: str, made: Sequence[Batch]) -> list[Batch]:
    """Write the batches that a chunking worker made. Return those whose vectors are not stored yet.

    A worker that repeats its task finds its batches written, so nothing is counted twice.
    """
    before = batches_of(conn, job_id, [batch.ordinal for batch in made])
    new = [batch for batch in made if batch.ordinal not in before]
    if new:
        conn.execute(
            _ADD_BATCH,
            [
                {
                    "job_id": job_id,
                    "ordinal": batch.ordinal,
                    "state": BatchState.PENDING,
                    "first_chunk": batch.first_chunk,
                    "chunks": batch.chunks,
                    "dead": 0,
                }
                for batch in new
            ],
        )
        conn.execute(_ADD_CHUNKS, {"job": job_id, "more": sum(batch.chunks for batch in new)})
    done = {ordinal for ordinal, batch in before.items() if batch.state is BatchState.DONE}
    return [batch for batch in made if batch.ordinal not in done]


def record_embedded(conn: Connection, job_id: str, ordinal: int, *, reused: int) -> None:
    """Count a batch as embedded, once. `reused` is the number of its chunks with a stored vector."""
    if _leave(conn, job_id, ordinal, BatchState.PENDING, BatchState.EMBEDDED):
        conn.execute(_COUNT_EMBEDDED, {"job": job_id, "number": ordinal, "reused": reused})


def record_stored(
    conn: Connection, job_id: str, ordinal: int, *, reused: int, dead: Sequence[DeadLetter], now: float
) -> bool:
    """Count a batch as stored, except for its `dead` chunks, and write their dead letters.

    This happens once. Return False if the batch was counted before.
    """
    if not _leave(conn, job_id, ordinal, BatchState.EMBEDDED, BatchState.DONE):
        # Either the batch is done already, or the storage worker was faster than the embedding worker, which
        # queues the storage task before it records the batch as embedded. Record that for it and try again.
        record_embedded(conn, job_id, ordinal, reused=reused)
        if not _leave(conn, job_id, ordinal, BatchState.EMBEDDED, BatchState.DONE):
            return False
    conn.execute(_COUNT_STORED, {"job": job_id, "number": ordinal, "dead": len(dead)})
    if dead:
        mine = (batches.c.job_id == job_id) & (batches.c.ordinal == ordinal)
        conn.execute(update(batches).where(mine).values(dead=len(dead)))
        dead_letters.add(conn, job_id, dead, now)
    return True


def drop(conn: Connection, generation_ids: Sequence[int]) -> None:
    """Drop the batches of the jobs of these generations. The jobs stay as history."""
    mine = select(jobs.c.job_id).where(jobs.c.generation_id.in_(generation_ids))
    conn.execute(delete(batches).where(batches.c.job_id.in_(mine)))


def _leave(conn: Connection, job_id: str, ordinal: int, old: BatchState, new: BatchState) -> bool:
    """Move one batch from the state `old` to `new`. Return False if it was not in `old`."""
    moved = conn.execute(_MOVE_BATCH, {"job": job_id, "number": ordinal, "old": old, "new": new})
    return bool(moved.rowcount)


def _batch(row: Row[Any]) -> Batch:
    return Batch(row.ordinal, row.first_chunk, row.chunks, BatchState(row.state))


_ADD_BATCH = insert(batches)

_ADD_CHUNKS = (
    update(jobs)
    .where(jobs.c.job_id == bindparam("job"))
    .values(chunks_total=jobs.c.chunks_total + bindparam("more"))
)

_CHUNKS_OF_BATCH = (
    select(batches.c.chunks)
    .where(batches.c.job_id == bindparam("job"), batches.c.ordinal == bindparam("number"))
    .scalar_subquery()
)

_MOVE_BATCH = (
    update(batches)
    .where(
        batches.c.job_id == bindparam("job"),
        batches.c.ordinal == bindparam("number"),
        batches.c.state == bindparam("old"),
    )
    .values(state=bindparam("new"))
)

_COUNT_EMBEDDED = (
    update(jobs)
    .where(is_unfinished_job())
    .values(
        batches_embedded=jobs.c.batches_embedded + 1,
        chunks_embedded=jobs.c.chunks_embedded + _CHUNKS_OF_BATCH,
        chunks_reused=jobs.c.chunks_reused + bindparam("reused"),
        status=earliest_stage_left(jobs.c.batches_embedded + 1, jobs.c.batches_total, jobs.c.sealed),
    )
)

_COUNT_STORED = (
    update(jobs)
    .where(is_unfinished_job())
    .values(
        batches_done=jobs.c.batches_done + 1,
        chunks_stored=jobs.c.chunks_stored + _CHUNKS_OF_BATCH - bindparam("dead"),
        chunks_dead=jobs.c.chunks_dead + bindparam("dead"),
    )
)

_BATCHES_OF = select(batches).where(
    batches.c.job_id == bindparam("job"), batches.c.ordinal.in_(bindparam("numbers", expanding=True))
)

_BATCHES_AMONG = select(batches).where(
    tuple_(batches.c.job_id, batches.c.ordinal).in_(bindparam("named", expanding=True))
)
