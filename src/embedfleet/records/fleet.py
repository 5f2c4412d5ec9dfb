"""The rows by which orchestrators know one another: which of them run, which one leads, and their orders.

The election needs no common clock. The leader increments a counter. Another orchestrator may take the lead
if, by its own clock, the counter has not changed for the length of a lease. If a leader was paused, there can
be two leaders for a moment. That does no harm, because every action of a leader may be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from sqlalchemy import Connection, delete, insert, select, update

from embedfleet.sql.tables import facts, leadership, orchestrators

SILENT_SECONDS = 20.0
"""An orchestrator that has not written for this long counts as dead. That is several heartbeats, and time for
a pause of its process. Its row stays for a day, for an operator who looks into its end."""
LOST_SECONDS = 3_600.0
"""A dead orchestrator is listed as lost for this long. One that ended in good order has no row."""
_LEADER = "leader"
_BROKER_EPOCH = "broker_epoch"


@dataclass(frozen=True, slots=True)
class Leadership:
    """The state of the leadership at the time of the read. `holder` is None if no orchestrator leads."""

    holder: str | None
    term: int
    beats: int


class PoolReport(BaseModel):
    """An orchestrator's report on one of its pools, for the others. Fields of later releases are ignored."""

    model_config = ConfigDict(frozen=True)

    workers: int = Field(description="Running now, those that drain not counted.")
    target: int
    most: int = Field(description="What it could grow to; 0: this host never serves the stage.")
    draining: int = 0
    waiting: int = Field(default=0, description="Asked for, but no node has taken them yet (Ray).")
    waits_for: str | None = Field(default=None, description="What a waiting worker lacks.")
    rate: float | None = Field(default=None, description="Tokens a second of one worker; None: not measured.")
    trouble: str | None = None
    models: tuple[str, ...] | None = Field(
        default=None,
        description="Loaded by workers or for searches, sorted; None: not told.",
    )
    sized_elsewhere: bool = Field(
        default=False,
        description="What starts the worker processes decides how many there are, such as Kubernetes.",
    )


_POOLS = TypeAdapter(dict[str, PoolReport])


@dataclass(frozen=True, slots=True)
class RunningOrchestrator:
    """A row of `orchestrators`. `pools` holds a report for each stage. Times are Unix seconds."""

    orchestrator_id: str
    host: str
    pid: int
    started_at: float
    seen_at: float
    pools: Mapping[str, PoolReport]
    has_orders: bool


# --- leadership ---


def leader(conn: Connection) -> Leadership:
    """Return the present state of the leadership."""
    row = conn.execute(select(leadership).where(leadership.c.name == _LEADER)).one()
    return Leadership(row.holder, row.term, row.beats)


def take_lead(conn: Connection, orchestrator_id: str, seen: Leadership) -> bool:
    """Become the leader. Return False and change nothing if the leadership changed since `seen` was read."""
    # This is one conditional UPDATE, so only one of several orchestrators that saw the same state succeeds.
    taken = conn.execute(
        update(leadership)
        .where(
            leadership.c.name == _LEADER,
            leadership.c.term == seen.term,
            leadership.c.beats == seen.beats,
        )
        .values(holder=orchestrator_id, term=seen.term + 1, beats=0)
    )
    return bool(taken.rowcount)


def keep_lead(conn: Connection, orchestrator_id: str) -> bool:
    """Show that the leader is alive. Return False if another orchestrator leads by now."""
    mine = (leadership.c.name == _LEADER) & (leadership.c.holder == orchestrator_id)
    kept = conn.execute(update(leadership).where(mine).values(beats=leadership.c.beats + 1))
    return bool(kept.rowcount)


def resign(conn: Connection, orchestrator_id: str) -> None:
    """Give up the lead, so that another orchestrator can take it at once, before the lease ends."""
    mine = (leadership.c.name == _LEADER) & (leadership.c.holder == orchestrator_id)
    conn.execute(update(leadership).where(mine).values(holder=None))


# --- the broker's epoch ---


def broker_epoch(conn: Connection) -> str | None:
    """Return the epoch of the broker that got all jobs marked as offered; None if no broker got them."""
    return conn.execute(select(facts.c.value).where(facts.c.name == _BROKER_EPOCH)).scalar()


def forget_broker_epoch(conn: Connection) -> None:
    """Record that no broker knows the jobs, so that the leader offers all unfinished ones again."""
    conn.execute(delete(facts).where(facts.c.name == _BROKER_EPOCH))


def set_broker_epoch(conn: Connection, epoch: str) -> None:
    """Record the epoch of the broker that the jobs are offered to from now on."""
    forget_broker_epoch(conn)
    conn.execute(insert(facts).values(name=_BROKER_EPOCH, value=epoch))


# --- running orchestrators ---


def announce(
    conn: Connection,
    orchestrator_id: str,
    *,
    host: str,
    pid: int,
    now: float,
    pools: Mapping[str, PoolReport],
) -> None:
    """Record that the orchestrator is alive at `now` and has these pools."""
    mine = orchestrators.c.orchestrator_id == orchestrator_id
    alive = {"seen_at": now, "pools": _POOLS.dump_json(dict(pools)).decode()}
    if not conn.execute(update(orchestrators).where(mine).values(alive)).rowcount:
        conn.execute(
            insert(orchestrators).values(
                orchestrator_id=orchestrator_id, host=host, pid=pid, started_at=now, **alive
            )
        )


def withdraw(conn: Connection, orchestrator_id: str) -> None:
    """Drop the row of an orchestrator that ends in good order."""
    conn.execute(delete(orchestrators).where(orchestrators.c.orchestrator_id == orchestrator_id))


def any_running(conn: Connection, now: float) -> bool:
    """Whether any orchestrator announced itself within `SILENT_SECONDS` before `now` (Unix seconds)."""
    query = select(orchestrators.c.seen_at).where(orchestrators.c.seen_at >= now - SILENT_SECONDS).limit(1)
    return conn.execute(query).first() is not None


def running(conn: Connection, now: float) -> list[RunningOrchestrator]:
    """Return the orchestrators that announced themselves within `SILENT_SECONDS` before `now`, by host."""
    return _seen(conn, now - SILENT_SECONDS)


def running_and_lost(
    conn: Connection, now: float
) -> tuple[list[RunningOrchestrator], list[RunningOrchestrator]]:
    """Return those that run at `now`, and those that fell silent within the last hour, each by host."""
    seen = _seen(conn, now - LOST_SECONDS)
    return (
        [one for one in seen if one.seen_at >= now - SILENT_SECONDS],
        [one for one in seen if one.seen_at < now - SILENT_SECONDS],
    )


def _seen(conn: Connection, seen_since: float) -> list[RunningOrchestrator]:
    columns = orchestrators.c
    query = select(orchestrators).where(columns.seen_at >= seen_since)
    return [
        RunningOrchestrator(
            row.orchestrator_id,
            row.host,
            row.pid,
            row.started_at,
            row.seen_at,
            _POOLS.validate_json(row.pools),
            row.wanted is not None,
        )
        for row in conn.execute(query.order_by(columns.host, columns.started_at, columns.orchestrator_id))
    ]


def loaded_models(found: Sequence[RunningOrchestrator]) -> frozenset[str] | None:
    """Return the names of the models that these or their workers have loaded; None if one does not tell."""
    reports = [pool.models for one in found for pool in one.pools.values()]
    return None if None in reports else frozenset(name for names in reports for name in names or ())


def forget_silent(conn: Connection, *, seen_before: float) -> None:
    """Drop the rows that were last written before `seen_before`. A killed orchestrator leaves such a row."""
    conn.execute(delete(orchestrators).where(orchestrators.c.seen_at < seen_before))


# --- orders ---


def order_workers(conn: Connection, orchestrator_id: str, stage: str, workers: int) -> None:
    """Order an orchestrator to run this many workers of a stage. It reads the order at its next heartbeat."""
    mine = orchestrators.c.orchestrator_id == orchestrator_id
    # The row is locked. Otherwise one of two concurrent orders could be lost.
    query = select(orchestrators.c.wanted).where(mine).with_for_update()
    orders = json.loads(conn.execute(query).scalar() or "{}")
    conn.execute(update(orchestrators).where(mine).values(wanted=json.dumps(orders | {stage: workers})))


def take_orders(conn: Connection, orchestrator_id: str) -> dict[str, int]:
    """Return and delete the orders for the orchestrator: the ordered number of workers by stage."""
    mine = orchestrators.c.orchestrator_id == orchestrator_id
    ordered = conn.execute(select(orchestrators.c.wanted).where(mine).with_for_update()).scalar()
    if ordered is None:
        return {}
    conn.execute(update(orchestrators).where(mine).values(wanted=None))
    orders: dict[str, int] = json.loads(ordered)
    return orders
