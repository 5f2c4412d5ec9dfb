"""The batches of a job, and the counters of the job that change with them.

Every transition is an UPDATE whose WHERE names the state that the batches leave. It returns the batches that
it changed, and only these are counted. So a redelivered task or a stale worker counts nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select

from embedfleet.records import dead_letters
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.job_completion import earliest_stage_left
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.states import BatchState
from embedfleet.sql.tables import batches, jobs


@dataclass(frozen=True, slots=True)
class Batch:
    """The chunks [first_chunk, first_chunk + chunks) of the job's generation."""

    ordinal: int
    first_chunk: int
    chunks: int
    state: BatchState = BatchState.PENDING


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """A batch whose vectors are made. `reused` of its chunks had a stored vector before."""

    job_id: str
    ordinal: int
    reused: int


@dataclass(frozen=True, slots=True)
class StoredBatch(EmbeddedBatch):
    """A batch whose vectors are stored, except for its `dead` chunks."""

    dead: Sequence[DeadLetter] = ()


def batches_of(conn: Connection, job_id: str, ordinals: Sequence[int]) -> dict[int, Batch]:
    """Return the job's batches with these ordinals, by ordinal. Batches that do not exist are left out."""
    rows = conn.execute(_BATCHES_OF, {"job": job_id, "numbers": list(ordinals)})
    return {row.ordinal: _batch(row) for row in rows}


def batches_among(conn: Connection, named: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Batch]:
    """Return the batches with these (job id, ordinal), by that pair. Missing batches are left out."""
    return {
        (job_id, ordinal): Batch(ordinal, first_chunk, chunks, BatchState(state))
        for job_id, ordinal, state, first_chunk, chunks in _AMONG.run(conn, sorted(set(named)))
    }


def done_from(conn: Connection, job_id: str, first: int, limit: int) -> list[Batch]:
    """Return up to `limit` batches of the job that are done, with ordinals from `first` on, in order."""
    query = select(batches).where(
        batches.c.job_id == job_id, batches.c.ordinal >= first, batches.c.state == BatchState.DONE
    )
    return [_batch(row) for row in conn.execute(query.order_by(batches.c.ordinal).limit(limit))]


def add(conn: Connection, made: Mapping[str, Sequence[Batch]]) -> dict[str, list[Batch]]:
    """Write the batches that chunking made, by job id. Return those whose vectors are not stored yet.

    A worker that repeats its task finds its batches written, so nothing is counted twice: only the rows that
    this call added are counted.
    """
    rows = [
        (job_id, batch.ordinal, BatchState.PENDING.value, batch.first_chunk, batch.chunks, 0)
        for job_id, some in made.items()
        for batch in some
    ]
    new = {(row.job_id, row.ordinal): row.chunks for row in _ADD_BATCHES.run(conn, rows)}
    more: Counter[str] = Counter()
    for (job_id, _), chunks in new.items():
        more[job_id] += chunks
    _ADD_CHUNKS.run(conn, sorted(more.items()))
    before = batches_among(conn, [row[:2] for row in rows if row[:2] not in new])
    done = {key for key, batch in before.items() if batch.state is BatchState.DONE}
    return {
        job_id: [batch for batch in some if (job_id, batch.ordinal) not in done]
        for job_id, some in made.items()
    }


def record_embedded(conn: Connection, embedded: Sequence[EmbeddedBatch]) -> None:
    """Count batches as embedded, each once."""
    _count(conn, _leave_pending(conn, embedded), now_done=())


def record_stored(conn: Connection, stored: Sequence[StoredBatch], now: float) -> set[tuple[str, int]]:
    """Count batches as stored, except for their `dead` chunks, and write the dead letters of these chunks.

    This happens once for each batch. Returns the (job id, ordinal) of the batches that this call counted.
    """
    # The storage worker may be faster than the embedding worker, which queues the storage task before it
    # records the batch as embedded. So record that for it. It comes first: a batch that another unit records
    # as embedded between the two statements is then found by the second one.
    now_embedded = _leave_pending(conn, stored)
    given = [(batch.job_id, batch.ordinal, len(batch.dead)) for batch in stored]
    moved = _TO_DONE.run(conn, given, done=BatchState.DONE, embedded=BatchState.EMBEDDED)
    _count(conn, now_embedded, now_done=moved)
    counted = {(row.job_id, row.ordinal) for row in moved}
    letters: dict[str, list[DeadLetter]] = {}
    for batch in stored:
        if batch.dead and (batch.job_id, batch.ordinal) in counted:
            letters.setdefault(batch.job_id, []).extend(batch.dead)
    dead_letters.add(conn, letters, now)
    return counted


def drop(conn: Connection, generation_ids: Sequence[int]) -> None:
    """Drop the batches of the jobs of these generations. The jobs stay as history."""
    mine = select(jobs.c.job_id).where(jobs.c.generation_id.in_(generation_ids))
    conn.execute(delete(batches).where(batches.c.job_id.in_(mine)))


def _leave_pending(conn: Connection, embedded: Sequence[EmbeddedBatch]) -> list[tuple[EmbeddedBatch, int]]:
    """Move batches from pending to embedded. Return each batch that moved, with the number of its chunks."""
    batch_of = {(batch.job_id, batch.ordinal): batch for batch in embedded}
    moved = _TO_EMBEDDED.run(conn, list(batch_of), embedded=BatchState.EMBEDDED, pending=BatchState.PENDING)
    return [(batch_of[row.job_id, row.ordinal], row.chunks) for row in moved]


def _count(
    conn: Connection, now_embedded: Iterable[tuple[EmbeddedBatch, int]], now_done: Iterable[Any]
) -> None:
    """Add the batches that moved to the counters of their jobs, each job once."""
    more: dict[str, Counter[str]] = {}
    for batch, chunks in now_embedded:
        more.setdefault(batch.job_id, Counter()).update(
            batches_embedded=1, chunks_embedded=chunks, chunks_reused=batch.reused
        )
    for row in now_done:
        more.setdefault(row.job_id, Counter()).update(
            batches_done=1, chunks_stored=row.chunks - row.dead, chunks_dead=row.dead
        )
    given = [(job_id, *(counts[name] for name in _COUNTERS)) for job_id, counts in more.items()]
    _ADD_COUNTS.run(conn, given)


def _batch(row: Row[Any]) -> Batch:
    return Batch(row.ordinal, row.first_chunk, row.chunks, BatchState(row.state))


_ADD_BATCHES = RowsStatement(
    "INSERT INTO batches (job_id, ordinal, state, first_chunk, chunks, dead) VALUES {rows} "
    "ON CONFLICT (job_id, ordinal) DO NOTHING RETURNING job_id, ordinal, chunks"
)

_ADD_CHUNKS = RowsStatement(
    "WITH given(job_id, more) AS (VALUES {rows}) "
    "UPDATE jobs SET chunks_total = chunks_total + given.more FROM given WHERE jobs.job_id = given.job_id"
)

_TO_EMBEDDED = RowsStatement(
    "WITH given(job_id, ordinal) AS (VALUES {rows}) "
    "UPDATE batches SET state = {embedded} FROM given "
    "WHERE batches.job_id = given.job_id AND batches.ordinal = given.ordinal AND batches.state = {pending} "
    "RETURNING batches.job_id, batches.ordinal, batches.chunks"
)

_TO_DONE = RowsStatement(
    "WITH given(job_id, ordinal, dead) AS (VALUES {rows}) "
    "UPDATE batches SET state = {done}, dead = given.dead FROM given "
    "WHERE batches.job_id = given.job_id AND batches.ordinal = given.ordinal AND batches.state = {embedded} "
    "RETURNING batches.job_id, batches.ordinal, batches.chunks, batches.dead"
)

_COUNTERS = (
    "batches_embedded",
    "chunks_embedded",
    "chunks_reused",
    "batches_done",
    "chunks_stored",
    "chunks_dead",
)

_EMBEDDED_THEN = "jobs.batches_embedded + given.batches_embedded"

# The status follows only the batches that are embedded now.
_ADD_COUNTS = RowsStatement(
    f"WITH given(job_id, {', '.join(_COUNTERS)}) AS (VALUES {{rows}}) "
    f"UPDATE jobs SET {', '.join(f'{name} = jobs.{name} + given.{name}' for name in _COUNTERS)}, "
    "status = CASE WHEN NOT jobs.sealed OR given.batches_embedded = 0 THEN jobs.status "
    f"ELSE {earliest_stage_left(_EMBEDDED_THEN, 'jobs.batches_total')} END "
    "FROM given WHERE jobs.job_id = given.job_id AND jobs.finished_at IS NULL"
)

_BATCHES_OF = select(batches).where(
    batches.c.job_id == bindparam("job"), batches.c.ordinal.in_(bindparam("numbers", expanding=True))
)

_AMONG = RowsStatement(
    "WITH given(job_id, ordinal) AS (VALUES {rows}) "
    "SELECT batches.job_id, batches.ordinal, batches.state, batches.first_chunk, batches.chunks "
    "FROM given JOIN batches ON batches.job_id = given.job_id AND batches.ordinal = given.ordinal"
)
