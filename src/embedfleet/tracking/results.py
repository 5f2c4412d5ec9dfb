"""The chunks of a job as they are stored, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.queue_schemas import ChunkInfo, JobStatus
from embedfleet.records import batches, chunks, dead_letters, document_content, generations, jobs
from embedfleet.records.batches import Batch
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.collections import Collection
from embedfleet.records.generations import Generation
from embedfleet.records.jobs import Job
from embedfleet.sql.database import Database

# The most chunks of one read: about a megabyte of JSON without vectors.
_CHUNKS_AT_ONCE = 500
_BATCHES_LOOKED_AT = 1_000
_WITH_CHUNKS = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)


@dataclass(frozen=True, slots=True)
class DeadResult:
    """A chunk that was given up. `start` and `end` are character offsets in the document's text."""

    chunk_index: int
    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """Some chunks that are stored, with their vectors in `collection`, and chunks that were given up.

    `ended`: the job has ended, and nothing follows.
    """

    collection: Collection | None
    chunks: Sequence[ChunkInfo] = ()
    dead: Sequence[DeadResult] = ()
    ended: bool = False


class JobResults:
    """Reads what was stored of a job since the last read. It keeps a byte for each chunk."""

    def __init__(self, database: Database, job_id: str, *, with_text: bool) -> None:
        self._database = database
        self._job_id = job_id
        self._with_text = with_text
        # By index of the chunk: 1 if it was returned.
        self._told = bytearray()
        # All batches before this one were returned, and those of `_beyond` after it.
        self._first_batch = 0
        self._beyond: set[int] = set()
        # After the job's end: all chunks before this one were returned.
        self._first_chunk = 0

    async def more(self) -> Stored:
        """Return some chunks that are stored and were not returned yet. No chunks: there are none now.

        While the job runs, they come in the order in which their batches are stored. After its end come the
        rest, and the chunks that were given up.
        """
        found, taken, self._first_chunk = await self._database.read(self._read)
        self._beyond.update(batch.ordinal for batch in taken)
        while self._first_batch in self._beyond:
            self._beyond.remove(self._first_batch)
            self._first_batch += 1
        for chunk in found.chunks:
            self._tell(chunk.chunk_index)
        return found

    def _tell(self, index: int) -> None:
        if index >= len(self._told):
            self._told.extend(bytes(index + 1 - len(self._told)))
        self._told[index] = 1

    def _was_told(self, index: int) -> bool:
        return index < len(self._told) and bool(self._told[index])

    # Reads run on a thread of the database, while `more` waits for them and changes nothing.

    def _read(self, conn: Connection) -> tuple[Stored, Sequence[Batch], int]:
        job = jobs.get(conn, self._job_id)
        made = None if job is None else generations.generation(conn, job.generation_id)
        if job is None or made is None:
            return Stored(None, ended=True), [], 0
        if job.status.terminal:
            found, first = self._rest(conn, job, made)
            return found, [], first
        taken = self._new_batches(conn)
        spans = [(made.generation_id, batch.first_chunk, batch.chunks) for batch in taken]
        rows = [row for some in chunks.between(conn, spans) for row in some] if spans else []
        lost = self._lost(conn, job)
        stored = [row for row in rows if row.chunk_index not in lost and not self._was_told(row.chunk_index)]
        return self._described(conn, made, stored), taken, 0

    def _new_batches(self, conn: Connection) -> list[Batch]:
        """Return the first batches that are done and were not returned, with about as many chunks as fit."""
        found: list[Batch] = []
        room, first = _CHUNKS_AT_ONCE, self._first_batch
        while room > 0:
            page = batches.done_from(conn, self._job_id, first, _BATCHES_LOOKED_AT)
            for batch in page:
                if batch.ordinal not in self._beyond and room > 0:
                    found.append(batch)
                    room -= batch.chunks
            if len(page) < _BATCHES_LOOKED_AT:
                break
            first = page[-1].ordinal + 1
        return found

    def _rest(self, conn: Connection, job: Job, made: Generation) -> tuple[Stored, int]:
        """Return some of what was not returned before the job ended, and where the next read begins."""
        lost = self._lost(conn, job)
        has_chunks = job.status in _WITH_CHUNKS
        first = self._first_chunk
        while has_chunks:
            page = chunks.between(conn, [(made.generation_id, first, _CHUNKS_AT_ONCE)])[0]
            rows = [row for row in page if not self._was_told(row.chunk_index)]
            if rows:
                stored = [row for row in rows if row.chunk_index not in lost]
                dead = [_dead(row, lost[row.chunk_index]) for row in rows if row.chunk_index in lost]
                return self._described(conn, made, stored, dead), first + _CHUNKS_AT_ONCE
            if not page:
                break
            first += _CHUNKS_AT_ONCE
        return Stored(made.collection, ended=True), first

    def _described(
        self, conn: Connection, made: Generation, stored: Sequence[ChunkRow], dead: Sequence[DeadResult] = ()
    ) -> Stored:
        infos = document_content.describe(conn, made, stored, with_text=self._with_text)
        return Stored(made.collection, infos, dead)

    def _lost(self, conn: Connection, job: Job) -> dict[int, str]:
        """Return why chunks of the job were given up, by index."""
        if not job.chunks_dead:
            return {}
        letters = dead_letters.of_job(conn, self._job_id)
        return {one.chunk_index: one.reason for one in letters if one.chunk_index is not None}


def _dead(row: ChunkRow, reason: str) -> DeadResult:
    return DeadResult(row.chunk_index, row.start, row.end, reason)
