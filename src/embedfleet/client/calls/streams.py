"""How jobs end, and how far they are: in pages, and as they happen."""

from __future__ import annotations

from embedfleet.client.calls.reading import entries, record, segment
from embedfleet.client.lines import EventReader
from embedfleet.client.steps import Ask, Flow, Give, NextLine, Open, Pause, Steps
from embedfleet.explanation import JobExplanation
from embedfleet.queue_schemas import JobEvent
from embedfleet.records.cursors import require_limit

_ROWS = 1_000  # the server's longest page
# A stream that ends is opened again after this pause. A server that stops takes some seconds to start.
_PAUSE_SECONDS = 0.5


def events(*, after: int = 0, limit: int = 100) -> Steps[list[JobEvent]]:
    """Return up to `limit` events of ended jobs with a position above `after`, in the order of positions.

    For the next page, pass the position of the last event as `after`.
    """
    require_limit(limit)
    found: list[JobEvent] = []
    while len(found) < limit:
        asked = {"after": found[-1].position if found else after, "limit": min(limit - len(found), _ROWS)}
        more = entries(JobEvent, (yield Ask("GET", "/v1/events/page", params=asked)), "events")
        found += more
        if len(more) < asked["limit"]:
            break
    return found


def follow_events(*, after: int = 0) -> Flow[JobEvent]:
    """Give the events above the position `after`, then each new event. It never ends by itself.

    When the stream ends, because the server stops or the connection breaks, it is resumed where it was. An
    event may come twice, with the same `event_id`. Raises ServerUnavailable if the server stays away.
    """
    position = after
    while True:
        headers = {"Accept": "text/event-stream"}
        yield Open(Ask("GET", "/v1/events", params={"after": position}, headers=headers))
        reader = EventReader()
        while isinstance(line := (yield NextLine()), str):
            event = reader.take(line)
            if event is not None and event.name == "ended":
                found = JobEvent.model_validate_json(event.data, extra="ignore")
                position = found.position or position
                yield Give([found])
        yield Pause(_PAUSE_SECONDS)


def explain_job(job_id: str) -> Steps[JobExplanation]:
    """Say why the document of a job is not searchable yet. Raises UnknownJob."""
    return record(JobExplanation, (yield Ask("GET", f"/v1/jobs/{segment(job_id)}/explain")))


def explain_document(*, media_id: str) -> Steps[JobExplanation]:
    """Say why a document is not searchable yet, by its newest job. Raises UnknownDocument."""
    return record(JobExplanation, (yield Ask("GET", "/v1/explain", params={"media_id": media_id})))
