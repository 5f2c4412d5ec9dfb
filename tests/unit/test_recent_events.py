"""The newest events in memory: what a listener gets of them, and where it is then."""

from __future__ import annotations

from datetime import UTC, datetime

from embedfleet.queue_schemas import JobEvent, JobStatus
from embedfleet.records.scope import EveryTenant
from embedfleet.tracking.recent_events import RecentEvents


def event(position: int) -> JobEvent:
    return JobEvent(
        event_id=f"job:{position}",
        position=position,
        tenant="alice",
        job_id="job",
        media_id="1",
        status=JobStatus.COMPLETED,
        chunks_stored=1,
        chunks_dead=0,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_a_listener_that_read_on_from_the_database_does_not_hear_events_twice() -> None:
    recent = RecentEvents(3)
    assert recent.after(EveryTenant(), 5, 10) == ([], 5)
    recent.add([event(4), event(5), event(6)])
    assert recent.after(EveryTenant(), 5, 10) == ([event(6)], 6)


def test_what_was_forgotten_is_not_taken_for_nothing() -> None:
    assert RecentEvents(3).after(EveryTenant(), 2, 10) is None
