"""A wait over HTTP is made of short ones, so that no balancer cuts a silent request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from embedfleet.client.calls import jobs
from embedfleet.client.steps import Ask
from embedfleet.errors import UnknownJob
from embedfleet.queue_schemas import JobInfo, JobStatus, UserTier

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(job_id: str, status: JobStatus, **more: Any) -> JobInfo:
    return JobInfo(
        job_id=job_id,
        tenant="alice",
        media_id=job_id,
        status=status,
        priority=50,
        user_tier=UserTier.FREE,
        model="stub",
        generation=1,
        chars=1,
        created_at=NOW,
        **more,
    )


def states(*infos: JobInfo) -> httpx.Response:
    return httpx.Response(200, json={"jobs": [info.json_document() for info in infos]})


def waited(
    job_ids: Sequence[str], answers: Sequence[httpx.Response], **options: Any
) -> tuple[Mapping[str, JobInfo], list[Ask]]:
    """What the wait gives when the server answers so, and what it asked."""
    steps = jobs.wait_many(job_ids, **options)
    asked: list[Ask] = []
    step = next(steps)
    for answer in answers:
        assert isinstance(step, Ask)
        asked.append(step)
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, asked
    raise AssertionError(f"asks for more: {step}")


RUNNING, DONE = JobStatus.EMBEDDING, JobStatus.COMPLETED


def test_it_asks_about_the_unfinished_jobs_until_all_have_ended() -> None:
    answers = [
        states(job("2", DONE), job("1", RUNNING), job("3", RUNNING)),
        states(job("1", RUNNING), job("3", DONE)),
        states(job("1", DONE)),
    ]
    ended, asked = waited(["1", "2", "3"], answers)

    assert list(ended) == ["1", "2", "3"]
    assert all(info.status is DONE for info in ended.values())
    assert [ask.json["job_ids"] for ask in asked] == [["1", "2", "3"], ["1", "3"], ["1"]]
    assert all(ask.patience_seconds == ask.json["timeout_seconds"] > 0 for ask in asked)
    assert all(ask.repeatable for ask in asked)


def test_more_jobs_than_a_request_takes_are_first_looked_at_without_waiting() -> None:
    names = [f"{number}" for number in range(1_001)]
    ended, asked = waited(
        names, [states(*(job(name, DONE) for name in names[:1_000])), states(job("1000", DONE))]
    )
    assert list(ended) == names
    assert [ask.json["timeout_seconds"] for ask in asked] == [0, 0]


def test_a_job_that_is_deleted_meantime_is_left_out() -> None:
    ended, _ = waited(["1", "2"], [states(job("1", RUNNING), job("2", RUNNING)), states(job("2", DONE))])

    assert list(ended) == ["2"]


def test_a_job_that_is_not_there_is_unknown() -> None:
    with pytest.raises(UnknownJob, match="no job `2`"):
        waited(["1", "2"], [states(job("1", DONE))])


def test_a_wait_that_takes_too_long_names_a_job_and_what_it_waits_for() -> None:
    open_jobs = states(job("1", RUNNING, waiting_for="a model"), job("2", RUNNING))
    with pytest.raises(
        TimeoutError, match=r"job 1 is `embedding` after 0 s: it waits for a model \(2 jobs have not ended\)"
    ):
        waited(["1", "2"], [open_jobs], timeout_seconds=0)
