"""Waits for the ends of many jobs at once.

A look after a write must not ask for every open job: 100,000 jobs may be open while hundreds of transactions
are committed in a second. So a look reads what ended since the look before. The transaction that ends a job
writes its event, and a look reads two kinds of events:

- Those with a position above the last one read. Positions are given in order and after the commit. So a look
  that has read up to a position has missed no event before it, whatever the clocks of the hosts say.
- Those without a position. The leader numbers events soon, so there are few of them.

While no leader runs, events without a position gather, and a look reads only the newest of them. If there are
more than it reads, every open job is asked for once in a few seconds.

A few open jobs are asked for by their ids after every write, which is faster than all this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from sqlalchemy import Connection

from embedfleet.paging import pages
from embedfleet.queue_schemas import JobInfo
from embedfleet.records import events, jobs
from embedfleet.records.job_info import job_infos
from embedfleet.records.scope import Scope
from embedfleet.sql.database import Database

# Up to this many open jobs are asked for by their ids. Such a look costs about as much as one at the events.
_FEW = 20
# While more jobs are open, looks begin at least this far apart: one look answers a burst of commits.
_LOOK_SECONDS = 0.05
# A write of another process may go unnoticed, so a look follows after this time in any case.
_LONGEST_PAUSE_SECONDS = 1.0
# The most events with a position that one look reads, and the most without. Every look reads the latter
# again until the leader numbers them, so that number is small.
_EVENTS_PER_LOOK = 5_000
_UNNUMBERED_PER_LOOK = 500
# The time between two looks at all open jobs, while there are more events without a position than are read.
_LOOK_AT_ALL_SECONDS = 5.0
# The most jobs that one read describes, so that the caller gets the first ones early.
_DESCRIBED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Ended:
    """Descriptions of ended jobs, and the ids of jobs that are gone because their document was deleted."""

    infos: Sequence[JobInfo]
    gone: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look found. `later` are jobs that probably ended, too many to describe in the same read.

    `position` is the last position that it knows of. `full`: it read as many numbered events as it may.
    `missed`: there may be events without a position that it did not read.
    """

    ended: _Ended
    later: Sequence[str]
    position: int
    full: bool = False
    missed: bool = False


class OpenJobs:
    """Jobs that one caller waits for. All of them existed within the scope when the wait began."""

    def __init__(self, database: Database, scope: Scope, job_ids: Sequence[str]) -> None:
        self._database = database
        self._scope = scope
        self._open = dict.fromkeys(job_ids)
        self._position = 0
        self._missed = False
        self._looked_at_all = float("-inf")

    async def ended(self) -> AsyncIterator[JobInfo]:
        """Yield each job once, as soon as it has ended. Call this once.

        A job that is retried before its end is noticed counts as open. A job that is dropped with its
        document is not yielded.
        """
        look: Callable[[Connection], _Look] = self._look_at_all
        while self._open:
            # Before the look: a write during the look must bring another one.
            seen = await self._database.writes_noticed()
            begun = monotonic()
            found = await self._database.read(look)
            self._note(found, begun, of_all=look == self._look_at_all)
            for info in self._closed(found.ended):
                yield info
            for page in pages(found.later, _DESCRIBED_AT_ONCE):
                for info in self._closed(await self._database.read(partial(_describe, job_ids=page))):
                    yield info
            if self._open and not found.full:
                await self._rest(seen, begun)
            look = self._next_look()

    def _note(self, found: _Look, begun: float, *, of_all: bool) -> None:
        self._position = found.position
        self._missed = found.missed or (self._missed and not of_all)
        if of_all:
            self._looked_at_all = begun

    def _closed(self, ended: _Ended) -> Sequence[JobInfo]:
        """Take these jobs off the open ones, and return the descriptions of those that are not gone."""
        for info in ended.infos:
            del self._open[info.job_id]
        for job_id in ended.gone:
            del self._open[job_id]
        return ended.infos

    async def _rest(self, seen: int, begun: float) -> None:
        await self._database.wait_for_write(seen, timeout_seconds=_LONGEST_PAUSE_SECONDS)
        if len(self._open) > _FEW:
            await asyncio.sleep(begun + _LOOK_SECONDS - monotonic())

    def _next_look(self) -> Callable[[Connection], _Look]:
        too_old = monotonic() - self._looked_at_all >= _LOOK_AT_ALL_SECONDS
        few = len(self._open) <= _FEW
        return self._look_at_all if few or (self._missed and too_old) else self._look_at_events

    # Looks run on a thread of the database, while `ended` waits for them and changes nothing.

    def _look_at_all(self, conn: Connection) -> _Look:
        # A look at few jobs needs no position: no look at events follows it.
        position = events.last_position(conn) if len(self._open) > _FEW else 0
        unfinished = jobs.unfinished_among(conn, list(self._open))
        return _look(conn, [job_id for job_id in self._open if job_id not in unfinished], position)

    def _look_at_events(self, conn: Connection) -> _Look:
        numbered = events.ended_jobs_after(conn, self._scope, self._position, _EVENTS_PER_LOOK)
        unnumbered = events.newest_without_position(conn, _UNNUMBERED_PER_LOOK)
        ended = dict.fromkeys([*(job_id for _, job_id in numbered), *unnumbered])
        return _look(
            conn,
            [job_id for job_id in ended if job_id in self._open],
            numbered[-1][0] if numbered else self._position,
            full=len(numbered) == _EVENTS_PER_LOOK,
            missed=len(unnumbered) == _UNNUMBERED_PER_LOOK,
        )


def _look(
    conn: Connection, ended: Sequence[str], position: int, *, full: bool = False, missed: bool = False
) -> _Look:
    now, later = ended[:_DESCRIBED_AT_ONCE], ended[_DESCRIBED_AT_ONCE:]
    return _Look(_describe(conn, now), later, position, full=full, missed=missed)


def _describe(conn: Connection, job_ids: Sequence[str]) -> _Ended:
    """Describe those of the jobs that have ended. An event may be of an earlier run of a retried job."""
    found = jobs.get_many(conn, job_ids)
    ended = [job for job in found.values() if job.status.terminal]
    return _Ended(job_infos(conn, ended), [job_id for job_id in job_ids if job_id not in found])
