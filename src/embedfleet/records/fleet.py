"""Orchestrators as they see one another: who runs, who leads, what each was told to have.

Leadership needs no clock in common: the leader moves a counter, and whoever has watched it stand still for
a lease, by its own clock, may take over. Two leaders at once are possible for a moment (one was paused) and
harmless: all that a leader does may be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from sqlalchemy import Connection, delete, insert, select, update

from embedfleet.sql.tables import facts, leadership, orchestrators

_LEADER = "leader"
_BROKER_EPOCH = "broker_epoch"


@dataclass(frozen=True, slots=True)
class Leadership:
    """The leader as it was looked at; `holder` None: nobody."""

    holder: str | None
    term: int
    beats: int


class PoolReport(BaseModel):
    """One pool of one orchestrator, as it tells the others. Fields of later releases are ignored."""

    model_config = ConfigDict(frozen=True)

    workers: int = Field(description="Running now, those that drain not counted.")
    target: int
    most: int = Field(description="What it could grow to; 0: this host never serves the stage.")
    draining: int = 0
    rate: float | None = Field(default=None, description="Tokens a second of one worker; None: not measured.")
    trouble: str | None = None
    models: tuple[str, ...] | None = Field(
        default=None,
        description="Loaded by workers or for searches, sorted; None: not told.",
    )


_POOLS = TypeAdapter(dict[str, PoolReport])


@dataclass(frozen=True, slots=True)
class RunningOrchestrator:
    """A row of `orchestrators`. `pools`: by stage."""

    orchestrator_id: str
    host: str
    pid: int
    started_at: float
    seen_at: float
    pools: Mapping[str, PoolReport]
    has_orders: bool


# --- leadership ---


def leader(conn: Connection) -> Leadership:
    row = conn.execute(select(leadership).where(leadership.c.name == _LEADER)).one()
    return Leadership(row.holder, row.term, row.beats)


def take_lead(conn: Connection, orchestrator_id: str, seen: Leadership) -> bool:
    """Become the leader, unless something has moved since `seen` was looked at."""
    won = conn.execute(
        update(leadership)
        .where(
            leadership.c.name == _LEADER,
            leadership.c.term == seen.term,
            leadership.c.beats == seen.beats,
        )
        .values(holder=orchestrator_id, term=seen.term + 1, beats=0)
    )
    return bool(won.rowcount)


def keep_lead(conn: Connection, orchestrator_id: str) -> bool:
    """Show that the leader lives; False if somebody else leads by now."""
    mine = (leadership.c.name == _LEADER) & (leadership.c.holder == orchestrator_id)
    kept = conn.execute(update(leadership).where(mine).values(beats=leadership.c.beats + 1))
    return bool(kept.rowcount)


def resign(conn: Connection, orchestrator_id: str) -> None:
    """Make room at once, instead of after the lease."""
    mine = (leadership.c.name == _LEADER) & (leadership.c.holder == orchestrator_id)
    conn.execute(update(leadership).where(mine).values(holder=None))


# --- the broker's life ---


def broker_epoch(conn: Connection) -> str | None:
    """The life of the broker that has been told of all jobs marked as offered."""
    return conn.execute(select(facts.c.value).where(facts.c.name == _BROKER_EPOCH)).scalar()


def forget_broker_epoch(conn: Connection) -> None:
    """No broker has been told of any job."""
    conn.execute(delete(facts).where(facts.c.name == _BROKER_EPOCH))


def set_broker_epoch(conn: Connection, epoch: str) -> None:
    forget_broker_epoch(conn)
    conn.execute(insert(facts).values(name=_BROKER_EPOCH, value=epoch))


# --- who runs ---


def announce(
    conn: Connection,
    orchestrator_id: str,
    *,
    host: str,
    pid: int,
    now: float,
    pools: Mapping[str, PoolReport],
) -> None:
    """The orchestrator lives and has these pools."""
    mine = orchestrators.c.orchestrator_id == orchestrator_id
    alive = {"seen_at": now, "pools": _POOLS.dump_json(dict(pools)).decode()}
    if not conn.execute(update(orchestrators).where(mine).values(alive)).rowcount:
        conn.execute(
            insert(orchestrators).values(
                orchestrator_id=orchestrator_id, host=host, pid=pid, started_at=now, **alive
            )
        )


def withdraw(conn: Connection, orchestrator_id: str) -> None:
    conn.execute(delete(orchestrators).where(orchestrators.c.orchestrator_id == orchestrator_id))


def running(conn: Connection, *, seen_since: float) -> list[RunningOrchestrator]:
    """Those that have shown themselves since, by host."""
    who = orchestrators.c
    query = select(orchestrators).where(who.seen_at >= seen_since)
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
        for row in conn.execute(query.order_by(who.host, who.started_at, who.orchestrator_id))
    ]


def forget_silent(conn: Connection, *, seen_before: float) -> None:
    """Drop what killed orchestrators left."""
    conn.execute(delete(orchestrators).where(orchestrators.c.seen_at < seen_before))


# --- orders ---


def want(conn: Connection, orchestrator_id: str, stage: str, workers: int) -> None:
    """Tell an orchestrator how many workers of a stage to have; it looks with its next heartbeat."""
    mine = orchestrators.c.orchestrator_id == orchestrator_id
    query = select(orchestrators.c.wanted).where(mine).with_for_update()
    told = json.loads(conn.execute(query).scalar() or "{}")
    conn.execute(update(orchestrators).where(mine).values(wanted=json.dumps(told | {stage: workers})))


def take_orders(conn: Connection, orchestrator_id: str) -> dict[str, int]:
    """What the orchestrator was told since it looked last: stage to workers."""
    mine = orchestrators.c.orchestrator_id == orchestrator_id
    told = conn.execute(select(orchestrators.c.wanted).where(mine).with_for_update()).scalar()
    if told is None:
        return {}
    conn.execute(update(orchestrators).where(mine).values(wanted=None))
    orders: dict[str, int] = json.loads(told)
    return orders
