"""Streams of server-sent events and of NDJSON: their form, their number, and how they end.

Only a durable event has an `id`: its position, at which a client that comes back goes on. An id on anything
else would make the client go on behind events that it did not get.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Send

from embedfleet.errors import Transient
from embedfleet.queue_schemas import JobEvent

HEARTBEAT = format_sse_event(data_str=None, comment="heartbeat")
"""A comment, which clients ignore. Proxies cut connections that are silent."""
# A client that was cut off comes back after this pause: at once would be a storm when a server stops.
_RETRY_MILLISECONDS = 2_000
_ENCODED_KEPT = 2_000
_TRY_AGAIN_SECONDS = 5.0
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Streams:
    """Counts the streams of a process, and has their events encoded once for all of them."""

    def __init__(self, most: int) -> None:
        """`most`: of all tenants together. One tenant has at most half of them."""
        self._most = most
        self._open: Counter[str | None] = Counter()
        self._encoded: dict[str, bytes] = {}

    @property
    def number(self) -> int:
        """How many streams are open."""
        return self._open.total()

    def require_room(self, tenant: str | None) -> None:
        """Raise Transient if there are too many streams, of all or of this tenant (None: of operators).

        A stream that begins after it calls `one_more`.
        """
        full = self.number >= self._most
        if full or self._open[tenant] >= -(-self._most // 2):
            whose = "" if full else "of this tenant "
            raise Transient(
                f"http.max_streams: {self.number if full else self._open[tenant]} streams {whose}are open in "
                "this process: close some, or try again later",
                retry_after_seconds=_TRY_AGAIN_SECONDS,
            )

    @contextmanager
    def one_more(self, tenant: str | None) -> Iterator[None]:
        """Count a stream of this tenant during the block."""
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]

    def durable(self, event: JobEvent) -> bytes:
        """Return the event with its id, or without one if the event is not kept any more."""
        if not event.position:
            return control("ended", event)
        known = self._encoded.get(event.event_id)
        if known is None:
            known = self._encoded[event.event_id] = format_sse_event(
                data_str=event.model_dump_json(by_alias=True), event="ended", id=str(event.position)
            )
            if len(self._encoded) > _ENCODED_KEPT:
                del self._encoded[next(iter(self._encoded))]
        return known


def control(event: str, data: BaseModel) -> bytes:
    """Return an event without an id."""
    return format_sse_event(data_str=data.model_dump_json(by_alias=True), event=event)


class Opened(BaseModel):
    """The beginning of a stream. `position`: pass it as `after` to begin here again."""

    position: int


class Resync(BaseModel):
    """Events after the position of the client are not kept. Read the state of the jobs, then go on here."""

    asked: str
    position: int


class Stopping(BaseModel):
    """The server stops. Come back after a pause, at the last position."""

    reason: str = "the server stops"
    retry_after_seconds: float = _RETRY_MILLISECONDS / 1000


def opening(position: int) -> bytes:
    """Return what a stream begins with."""
    begun = Opened(position=position).model_dump_json()
    return format_sse_event(data_str=begun, event="opened", retry=_RETRY_MILLISECONDS)


class _Closed(StreamingResponse):
    """Closes its generator when the client leaves, so that what the generator holds is given back at once."""

    def __init__(self, content: AsyncGenerator[bytes, None]) -> None:
        super().__init__(content, headers=_HEADERS)
        self._content = content

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._content):
            await super().stream_response(send)


class EventStream(_Closed):
    """The answer that sends server-sent events."""

    media_type = EventSourceResponse.media_type


class LineStream(_Closed):
    """The answer that sends JSON documents, one a line."""

    media_type = "application/x-ndjson"
