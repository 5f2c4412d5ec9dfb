"""Dead letters: look, run again, or accept the loss. The contracts are those of `ScopedJobs`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from embedfleet.client.calls.listing import listed
from embedfleet.client.calls.reading import instant, record
from embedfleet.client.steps import Ask, Steps
from embedfleet.queue_schemas import DeadLetterInfo, Requeued, Stage
from embedfleet.records.cursors import Page


def list_dead_letters(
    *,
    job_id: str | None = None,
    stage: Stage | None = None,
    limit: int = 100,
    ended: bool = False,
    after: str | None = None,
) -> Steps[Page[DeadLetterInfo]]:
    """Return up to `limit` open dead letters, newest first. With `ended`, return the ended letters too."""
    params = {"job_id": job_id, "stage": stage, "ended": ended}
    path, name = "/v1/dead_letters", "dead_letters"
    return (yield from listed(DeadLetterInfo, path, name, limit=limit, after=after, params=params))


def get_dead_letter(dead_letter_id: int) -> Steps[DeadLetterInfo]:
    """Return one letter, open or ended. Raises UnknownDeadLetter."""
    return record(DeadLetterInfo, (yield Ask("GET", f"/v1/dead_letters/{dead_letter_id}")))


def requeue_dead_letters(ids: Sequence[int] | None = None, *, job_id: str | None = None) -> Steps[Requeued]:
    """Run the jobs of these letters again. The result names the jobs that cannot.

    Raises InvalidRequest unless exactly one of `ids` and `job_id` is given, or if every job is refused.
    Raises UnknownDeadLetter or UnknownJob for an unknown id.
    """
    body = {"ids": None if ids is None else list(ids), "job_id": job_id}
    return record(Requeued, (yield Ask("POST", "/v1/dead_letters:requeue", json=body)))


def purge_dead_letters(
    ids: Sequence[int] | None = None, *, job_id: str | None = None, before: datetime | None = None
) -> Steps[int]:
    """Mark these open letters as purged: their loss is accepted. Returns how many were open.

    Raises InvalidRequest unless exactly one of the arguments is given. Raises UnknownDeadLetter or UnknownJob
    for an unknown id.
    """
    body = {"ids": None if ids is None else list(ids), "job_id": job_id, "before": instant(before)}
    response = yield Ask("POST", "/v1/dead_letters:purge", json=body)
    purged: int = response.json()["purged"]
    return purged
