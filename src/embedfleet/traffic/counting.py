"""Counts the requests of this process, and writes the totals to SQL about once a second.

The guard decides by these counts, so they are kept by the change that decided a request. A count that cannot
be written is kept in memory and written later, but not for longer than `_KEPT_SECONDS`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.errors import EmbedfleetError
from embedfleet.metrics import Metrics
from embedfleet.records import traffic_counts
from embedfleet.records.traffic_counts import CountKey, Counts
from embedfleet.sql.database import Database
from embedfleet.traffic.latencies import class_of
from embedfleet.traffic.paths import Path
from embedfleet.trouble import Trouble
from embedfleet.waiting import wait_briefly

SLICE_SECONDS = 60
"""The length of a slice of time, which is a row for each path. A row is written again until it is over."""
FOLDED_SECONDS = 3_600
"""The length of the slices that the leader makes of those which are an hour old."""
FLUSH_SECONDS = 1.0
# Slices that are an hour old may be folded together by another process, so they are not written any more.
_KEPT_SECONDS = 1_800.0


class _Total:
    """Counts that grow."""

    __slots__ = ("chunks", "errors", "fallbacks", "latencies", "requests", "written")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.fallbacks = 0
        self.chunks = 0
        self.latencies: dict[int, int] = {}
        self.written = Counts()

    def counts(self) -> Counts:
        return Counts(self.requests, self.errors, self.fallbacks, self.chunks, dict(self.latencies))


class Counting:
    """The counts of one process, and its series. Belongs to one event loop."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._process = uuid.uuid4().hex
        self._totals: dict[tuple[int, str, int], _Total] = {}
        self._slice = 0
        self._metrics = metrics
        # Looking a series up by its labels takes longer than counting in it.
        self._answered = {
            path: (
                metrics.traffic_requests_total.labels(path, "answered"),
                metrics.traffic_seconds.labels(path),
                metrics.traffic_chunks_total.labels(path),
            )
            for path in Path
        }

    def answer(self, path: Path, change_id: int, seconds: float, chunks: int) -> None:
        """Count a request that the path answered in `seconds`."""
        total = self._total(path, change_id)
        total.requests += 1
        total.chunks += chunks
        number = class_of(seconds)
        total.latencies[number] = total.latencies.get(number, 0) + 1
        requests, latency, stored = self._answered[path]
        requests.inc()
        latency.observe(seconds)
        stored.inc(chunks)

    def failure(self, path: Path, change_id: int) -> None:
        """Count a request that the path failed to answer."""
        total = self._total(path, change_id)
        total.requests += 1
        total.errors += 1
        self._metrics.traffic_requests_total.labels(path, "failed").inc()

    def fallback(self, change_id: int, reason: str) -> None:
        """Count a request that the fleet failed to answer, and that goes the old way. See the metrics for
        `reason`."""
        self.failure(Path.ASYNC, change_id)
        self._total(Path.ASYNC, change_id).fallbacks += 1
        self._metrics.traffic_fallbacks_total.labels(reason).inc()

    def callers_fault(self, path: Path, change_id: int) -> None:
        """Count a request that is wrong in itself."""
        self._total(path, change_id).requests += 1
        self._metrics.traffic_requests_total.labels(path, "refused").inc()

    def _total(self, path: str, change_id: int) -> _Total:
        self._slice = max(self._slice, int(self._clock.now()) // SLICE_SECONDS)
        key = (self._slice, path, change_id)
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = _Total()
        return total

    async def flush(self, database: Database) -> None:
        """Write what has changed since the last flush. Raises what `Database.write` raises."""
        now = self._clock.now()
        # Before the write, which may fail again and again.
        self._forget(lambda number, _: number < (now - _KEPT_SECONDS) // SLICE_SECONDS)
        found = {key: total.counts() for key, total in self._totals.items()}
        changed = {key: counts for key, counts in found.items() if counts != self._totals[key].written}
        if changed:
            totals = {
                CountKey(number * SLICE_SECONDS, self._process, path, change_id): counts
                for (number, path, change_id), counts in changed.items()
            }
            await database.write(lambda conn: traffic_counts.record(conn, totals))
        for key, counts in changed.items():
            self._totals[key].written = counts
        this = int(now) // SLICE_SECONDS
        self._forget(lambda number, total: number < this and total.counts() == total.written)

    def _forget(self, is_over: Callable[[int, _Total], bool]) -> None:
        for key, total in list(self._totals.items()):
            number = key[0]
            if is_over(number, total):
                del self._totals[key]
                # A clock that is set back opens no slice again: a total that begins at 0 would overwrite it.
                self._slice = max(self._slice, number + 1)


class CountKeeping:
    """Writes the counts of this process to SQL, about once a second. A `Service`."""

    name: ClassVar = "traffic counts"

    def __init__(self, counting: Counting, database: Database) -> None:
        self._counting = counting
        self._database = database
        self._trouble = Trouble(over="traffic is counted again")

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await wait_briefly(stop, FLUSH_SECONDS)
            try:
                await self._counting.flush(self._database)
                self._trouble.clear()
            except EmbedfleetError as exc:
                self._trouble.note(exc)
