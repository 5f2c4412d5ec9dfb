"""Why a document is not searchable yet: every state has an answer that says more than that it waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from embedfleet.eta import StagePower, WorkAhead
from embedfleet.explanation import Cause, JobExplanation, KnownOfJob, NextAction, Pool, explain
from embedfleet.queue.broker import QueuedTask, TaskState
from embedfleet.queue_schemas import JobInfo, JobProgress, JobStatus, Stage, UserTier

POOL = Pool(StagePower(2, 100.0))
POOLS = dict.fromkeys(Stage, POOL)


def known(status: JobStatus, *, reason: str | None = None, **more: Any) -> KnownOfJob:
    progress = JobProgress(chunks_total=30, chunks_embedded=20, chunks_stored=10, sealed=True)
    info = JobInfo(
        job_id="job_1",
        tenant="alice",
        media_id="a",
        status=status,
        reason=reason,
        priority=50,
        user_tier=UserTier.FREE,
        model="stub",
        generation=1,
        chars=4_000,
        progress=JobProgress() if status is JobStatus.PENDING else progress,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    base = KnownOfJob(
        info=info,
        is_live=False,
        other_is_live=False,
        replaced=False,
        deleted=False,
        offered=True,
        offers_ahead=0,
        running=True,
        pools=POOLS,
        jobs_ahead=3,
        work=WorkAhead(own=4_000, total=9_000, share=0.5),
        tokens_left=1_000,
        other_tenants=2,
    )
    return replace(base, **more)


def with_pool(stage: Stage, pool: Pool) -> dict[Stage, Pool]:
    return POOLS | {stage: pool}


DELAYED = QueuedTask("t", TaskState.DELAYED, 2, "the model server answers 503", seconds=7.0)
LEASED = QueuedTask("t", TaskState.LEASED, 1, "")
READY = QueuedTask("u", TaskState.READY, 0, "", ahead=5)

STORED = JobProgress(chunks_total=30, chunks_embedded=30, chunks_stored=29, chunks_dead=1, sealed=True)


def switched(progress: JobProgress | None = None) -> KnownOfJob:
    """A job that ends together with its twin for model `new`."""
    found = known(JobStatus.STORING, waits_for_model="new")
    more = {} if progress is None else {"progress": progress}
    return replace(found, info=found.info.model_copy(update=more))


SCENES: list[tuple[KnownOfJob, Cause, NextAction, str]] = [
    (
        known(JobStatus.PENDING, offered=False, offers_ahead=12),
        Cause.OFFER_PENDING,
        NextAction.WAIT,
        "12 jobs are offered before it",
    ),
    (
        known(JobStatus.PENDING),
        Cause.IN_LINE,
        NextAction.WAIT,
        "3 jobs of its tenant (about 3,000 tokens)",
    ),
    (
        known(JobStatus.CHUNKING, jobs_ahead=0),
        Cause.IN_LINE,
        NextAction.WAIT,
        "the first of its tenant",
    ),
    (known(JobStatus.EMBEDDING), Cause.IN_LINE, NextAction.WAIT, "50% of the workers are for its tenant"),
    (
        known(JobStatus.EMBEDDING, tasks=[LEASED, READY]),
        Cause.IN_WORK,
        NextAction.WAIT,
        "a worker has it in hand",
    ),
    (
        known(JobStatus.EMBEDDING, tasks=[DELAYED]),
        Cause.RETRY_PAUSE,
        NextAction.WAIT,
        "the next one is in 7",
    ),
    (
        known(JobStatus.CHUNKING, tasks=[READY], share_is_full=True),
        Cause.SHARE_IS_FULL,
        NextAction.WAIT,
        "its tenant's share of the embedding queue is full",
    ),
    (known(JobStatus.STORING), Cause.IN_LINE, NextAction.WAIT, "10 of 30 chunks are stored"),
    (switched(), Cause.IN_LINE, NextAction.WAIT, "10 of 30 chunks are stored"),
    (switched(STORED), Cause.OTHER_MODEL, NextAction.WAIT, "once model new has embedded it too"),
    (
        known(JobStatus.EMBEDDING, running=False),
        Cause.NO_ORCHESTRATOR,
        NextAction.START_ORCHESTRATOR,
        "waits in embedding for an orchestrator",
    ),
    (
        known(JobStatus.CHUNKING, pools=with_pool(Stage.STORAGE, Pool(StagePower(0)))),
        Cause.NO_WORKERS,
        NextAction.ADD_WORKERS,
        "no host has a worker for storage",
    ),
    (
        known(JobStatus.EMBEDDING, pools=with_pool(Stage.EMBEDDING, Pool(StagePower(1), "it is away"))),
        Cause.SERVICE_AWAY,
        NextAction.RESTORE_SERVICE,
        "the embedding workers wait: it is away",
    ),
    (known(JobStatus.COMPLETED, is_live=True), Cause.SEARCHABLE, NextAction.NONE, "searches find it"),
    (
        known(JobStatus.COMPLETED_WITH_ERRORS, is_live=True, reason="2 of 9 chunks failed"),
        Cause.SEARCHABLE,
        NextAction.RETRY_JOB,
        "searches find it, but 2 of 9 chunks failed",
    ),
    (
        known(JobStatus.FAILED, other_is_live=True, reason="no text"),
        Cause.FAILED,
        NextAction.RETRY_JOB,
        "the job failed: no text; searches find the version before",
    ),
    (known(JobStatus.CANCELLED), Cause.CANCELLED, NextAction.RETRY_JOB, "the job was cancelled"),
    (known(JobStatus.CANCELLED, replaced=True), Cause.REPLACED, NextAction.NONE, "a later version"),
    (known(JobStatus.COMPLETED, deleted=True), Cause.DELETED, NextAction.SUBMIT_AGAIN, "was deleted"),
]


@pytest.mark.parametrize(("scene", "cause", "action", "words"), SCENES, ids=lambda one: str(one)[:24])
def test_every_state_says_why_and_what_to_do(
    scene: KnownOfJob, cause: Cause, action: NextAction, words: str
) -> None:
    found = explain(scene)
    assert (found.cause, found.next_action) == (cause, action)
    assert words in found.answer
    assert found.searchable == (cause is Cause.SEARCHABLE)
    assert (found.eta_seconds is not None) == (action is NextAction.WAIT)
    assert JobExplanation.model_validate(found.json_document()) == found


def test_every_cause_has_a_scene() -> None:
    assert {cause for _, cause, _, _ in SCENES} == set(Cause)
    assert {action for _, _, action, _ in SCENES} == set(NextAction)


def test_the_numbers_come_with_the_answer() -> None:
    found = explain(known(JobStatus.EMBEDDING, tasks=[DELAYED, READY]))
    assert (found.attempts, found.last_error) == (
        2,
        "the model server answers 503",
    )
    assert found.retry_in_seconds == 7.0
    assert (found.tasks_ahead, found.jobs_ahead, found.tokens_ahead, found.tokens_left) == (
        5,
        3,
        3_000,
        1_000,
    )
    # Half of 100 tokens a second for its 4,000 tokens would take 80 s. All 9,000 tokens take 90 s.
    assert found.eta_seconds == 80.0
    assert "about 80 s" in found.answer
    unmeasured = explain(known(JobStatus.EMBEDDING, pools=dict.fromkeys(Stage, Pool(StagePower(1)))))
    assert unmeasured.eta_seconds is None
    assert "no rate of the workers is measured yet" in unmeasured.answer
    assert explain(known(JobStatus.EMBEDDING)).attempts is None, "the queues could not be asked"
