"""Which requests of an application go to the fleet: look, change, listen. For operators."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from http import HTTPStatus
from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from fastapi.sse import format_sse_event
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from embedfleet.api.access import Operator, Parts, Principal
from embedfleet.api.fields import NO_NUL, After, Limit, NextCursor
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.api.routes.events import LARGEST_POSITION, LastEventId, position_of
from embedfleet.api.streams import HEARTBEAT, EventStream, Opened, Resync, Stopping, control, opening
from embedfleet.errors import Transient
from embedfleet.records.audit import LOCAL
from embedfleet.traffic.administration import (
    RESTORABLE_SECONDS,
    RETIRE_AFTER_SECONDS,
    WINDOW_SECONDS,
    TrafficAdministration,
)
from embedfleet.traffic.orders import LONGEST_REASON, StickyBy
from embedfleet.traffic.schemas import TrafficChange, TrafficStatus
from embedfleet.traffic.state import TrafficState
from embedfleet.waiting import first_of, wait_briefly

router = APIRouter(prefix="/v1", tags=["traffic"])

# The shortest time between two looks, each of which is one short query.
_LOOK_SECONDS = 0.1
# A look follows after this time in any case: a write of another process may go unnoticed.
_LONGEST_PAUSE_SECONDS = 1.0
_CHANGES_PER_LOOK = 100

_Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]
_Names = Annotated[frozenset[_Name], Field(max_length=10_000)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Window = Annotated[
    float,
    Query(
        description="The figures of the paths are of this time until now.",
        ge=0,
        le=366 * 86_400,
        allow_inf_nan=False,
    ),
]


class Why(BaseModel):
    """Why something is changed."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=LONGEST_REASON, pattern=NO_NUL)


class TrafficSetting(Why):
    """What changes of the state. What is left out stays; a list takes the place of the one before."""

    percent: _Number | None = None
    sticky_by: StickyBy | None = None
    allow_tenants: _Names | None = None
    deny_tenants: _Names | None = None
    allow_content_types: _Names | None = None
    deny_content_types: _Names | None = None
    expected_change_id: int | None = Field(
        default=None,
        ge=0,
        le=LARGEST_POSITION,
        description="The change that was looked at: if another one came since, nothing is changed.",
    )


class PlanRequest(Why):
    """A climb that the guard does by itself."""

    steps: list[_Number] = Field(min_length=1, max_length=100)
    hold_seconds: _Number
    max_error_rate: _Number
    max_p99_ratio: _Number


class Retiring(Why):
    """When the old path may be retired, and for how long that can be undone."""

    after_seconds: _Number = Field(
        default=RETIRE_AFTER_SECONDS,
        description="Every request must have gone to the fleet for so long, and none have fallen back.",
    )
    restorable_seconds: _Number = Field(
        default=RESTORABLE_SECONDS, description="How long the old path can be restored."
    )


class TrafficHistory(BaseModel):
    """Some changes, newest first."""

    changes: list[TrafficChange]
    next_cursor: NextCursor


_CONFLICT = responses(HTTPStatus.CONFLICT)


@router.get("/traffic", responses=responses())
async def get_traffic(
    parts: Parts, caller: Operator, window_seconds: _Window = WINDOW_SECONDS
) -> TrafficStatus:
    """Which requests go where, what the guard makes of it, and how both paths answer."""
    return await traffic_administration(parts, caller).show(window_seconds=window_seconds)


@router.patch("/traffic", responses=_CONFLICT)
async def set_traffic(parts: Parts, caller: Operator, setting: TrafficSetting) -> TrafficState:
    """Set the percentage, or the lists that go before it. It holds in every process within a second.

    A percentage ends a plan that is under way.
    """
    given = {name: getattr(setting, name) for name in setting.model_fields_set}
    return await traffic_administration(parts, caller).set(**given)


@router.post("/traffic:plan", responses=_CONFLICT)
async def plan_traffic(parts: Parts, caller: Operator, plan: PlanRequest) -> TrafficState:
    """Begin to climb by these percentages. A step that is above a limit ends the plan, at the step before."""
    return await traffic_administration(parts, caller).plan(
        plan.steps,
        hold_seconds=plan.hold_seconds,
        max_error_rate=plan.max_error_rate,
        max_p99_ratio=plan.max_p99_ratio,
        reason=plan.reason,
    )


@router.post("/traffic:pause", responses=_CONFLICT)
async def pause_traffic(parts: Parts, caller: Operator, why: Why | None = None) -> TrafficState:
    """Let the plan stay at its present step. It still goes back if the step is above a limit."""
    return await traffic_administration(parts, caller).pause(reason=_reason(why))


@router.post("/traffic:resume", responses=_CONFLICT)
async def resume_traffic(parts: Parts, caller: Operator, why: Why | None = None) -> TrafficState:
    """Let a paused plan go on. The time of its step begins again."""
    return await traffic_administration(parts, caller).resume(reason=_reason(why))


@router.post("/traffic:rollback", responses=_CONFLICT)
async def rollback_traffic(parts: Parts, caller: Operator, why: Why | None = None) -> TrafficState:
    """Send every request the old way: 0%, no plan, and empty lists of what is allowed."""
    return await traffic_administration(parts, caller).rollback(reason=_reason(why))


@router.post("/traffic:retire", responses=_CONFLICT)
async def retire_old_path(parts: Parts, caller: Operator, wanted: Retiring | None = None) -> TrafficState:
    """Retire the old path: from then on it refuses requests. What is missing for that is named."""
    asked = wanted or Retiring()
    return await traffic_administration(parts, caller).retire(
        after_seconds=asked.after_seconds, restorable_seconds=asked.restorable_seconds, reason=asked.reason
    )


@router.post("/traffic:restore", responses=_CONFLICT)
async def restore_old_path(parts: Parts, caller: Operator, why: Why | None = None) -> TrafficState:
    """Take the old path back into use. The percentage stays as it is."""
    return await traffic_administration(parts, caller).restore(reason=_reason(why))


@router.get("/traffic/history", responses=responses())
async def list_traffic_history(
    parts: Parts, caller: Operator, limit: Limit = 100, after: After = None
) -> TrafficHistory:
    """Who changed what, when and why, newest first."""
    page = await traffic_administration(parts, caller).history(limit=limit, after=after)
    return TrafficHistory(changes=page, next_cursor=page.next_cursor)


@router.get(
    "/traffic/events",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "model": Opened | TrafficChange | Resync | Stopping,
            "description": "`opened`; `changed`: a change, whose number is its id; `resync`: the number that "
            "was asked for is not of this system; `stopping`: the server stops. Heartbeats are comments.",
        },
        **responses(),
    },
)
async def follow_traffic(
    parts: Parts,
    caller: Operator,
    after: Annotated[
        int | None,
        Query(
            description="Only changes above this number; 0: all. Without it: from now on.",
            ge=0,
            le=LARGEST_POSITION,
        ),
    ] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Changes of the traffic as they happen, by people and by the guard. It never ends by itself.

    A client that comes back with `Last-Event-ID` misses no change, and gets none twice.
    """
    parts.streams.require_room(caller.named_tenant)
    return EventStream(_changes(parts, caller, last_event_id, after))


def traffic_administration(parts: ApiParts, caller: Principal) -> TrafficAdministration:
    """Return the administration of the traffic, for a caller that is known to be an operator."""
    assert caller.is_operator
    return TrafficAdministration(parts.database, parts.clock, actor=caller.key or LOCAL)


def _reason(why: Why | None) -> str | None:
    return None if why is None else why.reason


async def _changes(
    parts: ApiParts, caller: Principal, last_id: str | None, after: int | None
) -> AsyncGenerator[bytes, None]:
    administration = traffic_administration(parts, caller)
    last = (await administration.show()).state.change_id
    asked = (last if after is None else after) if last_id is None else position_of(last_id, -1)
    known = 0 <= asked <= last  # numbers have no gaps, and none is ever dropped
    position = asked if known else last
    with parts.streams.one_more(caller.named_tenant):
        yield opening(position)
        if not known:
            # It is of another system, or of this one before it was restored from a backup.
            yield control("resync", Resync(asked=last_id or str(asked), position=last))
        sent_at = monotonic()
        while not parts.stopping.is_set():
            # Before the look: a write during it must bring another one.
            seen = await parts.database.writes_noticed()
            with suppress(Transient):  # the database is away: what it has is told when it is back
                found = await administration.changes_after(position, limit=_CHANGES_PER_LOOK)
                if found:
                    position, sent_at = found[-1].change_id, monotonic()
                    yield b"".join(map(_frame, found))
                    continue
            if monotonic() - sent_at >= parts.settings.http.heartbeat_seconds:
                sent_at = monotonic()
                yield HEARTBEAT
            write = parts.database.wait_for_write(seen, timeout_seconds=_LONGEST_PAUSE_SECONDS)
            await first_of(write, parts.stopping.wait())
            # Most writes are of documents: one look answers all that come within this time.
            await wait_briefly(parts.stopping, _LOOK_SECONDS)
        yield control("stopping", Stopping())


def _frame(change: TrafficChange) -> bytes:
    return format_sse_event(data_str=change.model_dump_json(), event="changed", id=str(change.change_id))
