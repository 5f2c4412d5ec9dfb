"""How requests went, counted by each process that routes: the evidence of the guard.

A row is of one slice of time, process, path and change (the one that held when the request was decided). Each
process writes its own rows, as totals and not as increments. So a write may be repeated.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Executable, delete, func, select

from embedfleet.sql.traffic_tables import traffic_counts
from embedfleet.sql.upsert import upsert


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of requests. `latencies` has the number of answers by class of latency (`traffic.latencies`).

    `errors` are requests that the path failed to answer. `fallbacks` are those of them that the other path
    was then asked to answer. A request that is the caller's own fault is counted in `requests` alone.
    """

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    chunks: int = 0
    latencies: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CountKey:
    """What counts belong to. `slice_at` is the beginning of the slice, in Unix seconds.

    `path` is `sync` or `async`. `process` names the process that counted.
    """

    slice_at: int
    process: str
    path: str
    change_id: int


def record(conn: Connection, totals: Mapping[CountKey, Counts]) -> None:
    """Write totals of this process, in place of those that it wrote before under the same keys."""
    # In the order of their keys: two units that lock the same rows cannot wait for each other in a circle.
    for key in sorted(totals, key=lambda key: (key.slice_at, key.process, key.path, key.change_id)):
        counts = totals[key]
        values = {
            "requests": counts.requests,
            "errors": counts.errors,
            "fallbacks": counts.fallbacks,
            "chunks": counts.chunks,
            "latencies": _written(counts.latencies),
        }
        row = upsert(conn.dialect.name, traffic_counts).values(
            slice_at=key.slice_at, process=key.process, path=key.path, change_id=key.change_id, **values
        )
        conn.execute(row.on_conflict_do_update(index_elements=_KEY, set_=values))


def sums(conn: Connection, *, first_change: int = 0, since: float | None = None) -> dict[str, Counts]:
    """Sum up the counts by path. A path without counts is left out.

    Only requests count that were decided under the change `first_change` or a later one, in slices that begin
    at `since` (Unix seconds) or later. None: in all slices.
    """
    query = select(*_SUMMED).where(traffic_counts.c.change_id >= first_change)
    if since is not None:
        query = query.where(traffic_counts.c.slice_at >= since)
    return _summed(conn, query)


def added(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts."""
    every = list(counts)
    latencies: dict[int, int] = {}
    for one in every:
        for number, answers in one.latencies.items():
            latencies[number] = latencies.get(number, 0) + answers
    return Counts(
        sum(one.requests for one in every),
        sum(one.errors for one in every),
        sum(one.fallbacks for one in every),
        sum(one.chunks for one in every),
        latencies,
    )


def fold(conn: Connection, *, before: int, into_seconds: int, limit: int) -> int:
    """Make one row of all that belong to the same path, change and slice of `into_seconds`.

    Only rows of slices that begin before `before` are taken, which no process writes any more. At most
    `limit` rows are made; returns how many. Two callers at once are harmless: each row that goes is counted
    by the one that has deleted it.
    """
    beginning = traffic_counts.c.slice_at - traffic_counts.c.slice_at % into_seconds
    group = (beginning, traffic_counts.c.path, traffic_counts.c.change_id)
    query = select(*group).where(traffic_counts.c.slice_at < before).group_by(*group)
    made = 0
    for slice_at, path, change_id in conn.execute(query.having(func.count() > 1).limit(limit)).all():
        mine = delete(traffic_counts).where(
            beginning == slice_at,
            traffic_counts.c.slice_at < before,
            traffic_counts.c.path == path,
            traffic_counts.c.change_id == change_id,
        )
        counts = _summed(conn, mine.returning(*_SUMMED)).get(path)
        if counts is not None:
            # A name that no other row has: a concurrent caller makes a row of its own, and the next one adds
            # the two.
            record(conn, {CountKey(slice_at, uuid.uuid4().hex, path, change_id): counts})
            made += 1
    return made


def drop_old(conn: Connection, *, before: float) -> int:
    """Drop the rows of slices that begin before `before`. Return how many."""
    return conn.execute(delete(traffic_counts).where(traffic_counts.c.slice_at < before)).rowcount


_KEY = ["slice_at", "process", "path", "change_id"]

_SUMMED = (
    traffic_counts.c.path,
    traffic_counts.c.requests,
    traffic_counts.c.errors,
    traffic_counts.c.fallbacks,
    traffic_counts.c.chunks,
    traffic_counts.c.latencies,
)


def _summed(conn: Connection, query: Executable) -> dict[str, Counts]:
    found: dict[str, list[Counts]] = {}
    for path, requests, errors, fallbacks, chunks, latencies in conn.execute(query):
        found.setdefault(path, []).append(Counts(requests, errors, fallbacks, chunks, _read(latencies)))
    return {path: added(counts) for path, counts in found.items()}


def _written(latencies: Mapping[int, int]) -> str:
    return json.dumps({str(number): latencies[number] for number in sorted(latencies)})


def _read(latencies: str) -> dict[int, int]:
    return {int(number): answers for number, answers in json.loads(latencies).items()}
