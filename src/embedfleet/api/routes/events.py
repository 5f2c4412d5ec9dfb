"""How jobs end and how far they are: as streams of server-sent events, and in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from embedfleet.api.access import Parts, Principal, Reader
from embedfleet.api.fields import JobId, Limit, jobs_within
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.api.streams import HEARTBEAT, EventStream, Opened, Resync, Stopping, control, opening
from embedfleet.progress import JobNow, WorkNow
from embedfleet.queue_schemas import JobEvent
from embedfleet.records import events
from embedfleet.records.events import Bounds
from embedfleet.records.scope import EveryTenant, OneTenant, Scope
from embedfleet.tracking.job_watch import Heard, JobHeard

router = APIRouter(prefix="/v1", tags=["streams"])

LARGEST_POSITION = 2**63 - 1

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The `id` of the last event that the client got. It goes before `after`.",
        max_length=64,
    ),
]
AfterPosition = Annotated[int, Query(description="A position.", ge=0, le=LARGEST_POSITION)]


class EventPage(BaseModel):
    """Some events of ended jobs, in order."""

    events: list[JobEvent]
    position: int = Field(description="Pass it as `after` for what follows.")


class Gone(BaseModel):
    """The job was deleted with its document."""

    job_id: str


@router.get(
    "/events",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "model": Opened | JobEvent | WorkNow | Resync | Stopping,
            "description": "`opened`; `ended`: how a job ended, with an id; `work`: what is left to do, with "
            "an ETA; `resync`: older events are not kept; `stopping`: the server stops. Heartbeats are "
            "comments.",
        },
        **responses(),
    },
)
async def follow_events(
    parts: Parts,
    caller: Reader,
    after: Annotated[
        int | None,
        Query(
            description="Only events above this position; 0: all that are kept. Without it: from now on.",
            ge=0,
            le=LARGEST_POSITION,
        ),
    ] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """How jobs of the tenant end, as it happens, and what is left of its work. It never ends by itself.

    A client that comes back with `Last-Event-ID` misses no event. An event may come twice: `event_id` tells.
    """
    parts.streams.require_room(caller.named_tenant)
    return EventStream(_events(parts, caller, last_event_id, after))


@router.get("/events/page", responses=responses())
async def list_events(
    parts: Parts, caller: Reader, after: AfterPosition = 0, limit: Limit = 100
) -> EventPage:
    """Events of ended jobs above a position, in order."""
    found = await jobs_within(parts, caller).events(after=after, limit=limit)
    return EventPage(events=found, position=found[-1].position if found else after)


@router.get(
    "/jobs/{job_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "model": Opened | JobNow | JobEvent | Gone | Stopping,
            "description": "`opened`; `progress`: how far the job is, with an ETA; `ended`: how it ended, "
            "the last event; `gone`: it was deleted with its document; `stopping`. Heartbeats are comments.",
        },
        204: {"description": "The job has ended, and the client got the event of its end: do not come back."},
        **responses(HTTPStatus.NOT_FOUND),
    },
)
async def follow_job(
    parts: Parts, caller: Reader, job_id: JobId, last_event_id: LastEventId = None
) -> Response:
    """How far a job is, as it goes on. The stream ends with the event of the job's end."""
    info = await jobs_within(parts, caller).status(job_id)
    end = await parts.watch.end_of(job_id) if info.status.terminal and last_event_id is not None else None
    if end is not None and 0 < end.position <= position_of(last_event_id, 0):
        return Response(status_code=HTTPStatus.NO_CONTENT)
    parts.streams.require_room(caller.named_tenant)
    return EventStream(_job(parts, caller, job_id))


def scope_of(caller: Principal) -> Scope:
    """Return what the caller may see: the rows of its tenant, or all for an operator who names none."""
    if caller.named_tenant is None and caller.is_operator:
        return EveryTenant()
    return OneTenant(caller.tenant)


async def _events(
    parts: ApiParts, caller: Principal, last_id: str | None, after: int | None
) -> AsyncGenerator[bytes, None]:
    kept = await parts.database.read(events.bounds)
    start, resync = _start(kept, last_id, after)
    with parts.streams.one_more(caller.named_tenant):
        async with parts.watch.listen_to_events(scope_of(caller), after=start) as listener:
            yield opening(start)
            if resync is not None:
                yield control("resync", resync)
            while not listener.stopped:
                heard = await listener.hear(timeout_seconds=parts.settings.http.heartbeat_seconds)
                # In one piece: to send each by itself takes most of the time of a stream.
                frames = b"".join(_frame(parts, one) for one in heard)
                if frames or not listener.stopped:
                    yield frames or HEARTBEAT
            yield control("stopping", Stopping())


def _frame(parts: ApiParts, one: Heard) -> bytes:
    if isinstance(one, JobEvent):
        return parts.streams.durable(one)
    assert isinstance(one, WorkNow)
    return control("work", one)


def _start(kept: Bounds, last_id: str | None, after: int | None) -> tuple[int, Resync | None]:
    """Return the position after which the stream begins, and the notice if events before it are lost.

    Position 0 asks for all that is kept, so nothing of it is lost.
    """
    chosen = kept.last if after is None else after
    asked = chosen if last_id is None else position_of(last_id, -1)
    first = kept.last if kept.oldest is None else kept.oldest - 1
    if asked == 0:
        return first, None
    if asked < 0 or kept.have_dropped_after(asked):
        # A position that was never given is of another system, or of this one before it was restored.
        begin = kept.last if asked > kept.last else first
        return begin, Resync(asked=last_id or str(asked), position=begin)
    return asked, None


def position_of(last_id: str | None, otherwise: int) -> int:
    """Return the position that a `Last-Event-ID` names; `otherwise` for none, or for any other text."""
    if last_id is None or not (last_id.isascii() and last_id.isdigit()):
        return otherwise
    return min(int(last_id), LARGEST_POSITION)


async def _job(parts: ApiParts, caller: Principal, job_id: str) -> AsyncGenerator[bytes, None]:
    kept = await parts.database.read(events.bounds)
    with parts.streams.one_more(caller.named_tenant):
        async with parts.watch.listen_to_job(scope_of(caller), job_id) as listener:
            yield opening(kept.last)
            while not listener.stopped:
                heard = await listener.hear(timeout_seconds=parts.settings.http.heartbeat_seconds)
                for one in heard:
                    assert isinstance(one, JobHeard)
                    if one.now is None:
                        yield control("gone", Gone(job_id=job_id))
                        return
                    yield control("progress", one.now)
                    if one.event is not None:
                        yield parts.streams.durable(one.event)
                        return
                if not heard and not listener.stopped:
                    yield HEARTBEAT
            yield control("stopping", Stopping())
