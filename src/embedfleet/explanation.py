"""Why a document is not searchable yet: where its job is, what goes first, how long it takes, what to do.

`explain` decides by what was read of the job. It is pure. No answer is only that the job waits: each says for
what, and what ends the wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from embedfleet import eta
from embedfleet.eta import StagePower, WorkAhead
from embedfleet.queue.broker import QueuedTask, TaskState
from embedfleet.queue_schemas import JobInfo, JobStatus, Stage, TenantId


class Cause(StrEnum):
    """Why a document is, or is not, searchable. The values are stable."""

    SEARCHABLE = "searchable"
    REPLACED = "replaced"
    DELETED = "deleted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NO_ORCHESTRATOR = "no_orchestrator"
    NO_WORKERS = "no_workers"
    SERVICE_AWAY = "service_away"
    RETRY_PAUSE = "retry_pause"
    OFFER_PENDING = "offer_pending"
    SHARE_IS_FULL = "share_is_full"
    IN_LINE = "in_line"
    IN_WORK = "in_work"
    OTHER_MODEL = "other_model"


class NextAction(StrEnum):
    """What makes the document searchable. The values are stable."""

    NONE = "none"
    WAIT = "wait"
    RETRY_JOB = "retry_job"
    SUBMIT_AGAIN = "submit_again"
    START_ORCHESTRATOR = "start_orchestrator"
    ADD_WORKERS = "add_workers"
    RESTORE_SERVICE = "restore_service"


_WORDS = {
    NextAction.NONE: "nothing is to be done",
    NextAction.WAIT: "wait: it goes on by itself",
    NextAction.RETRY_JOB: "run the job again, when what made it fail is mended",
    NextAction.SUBMIT_AGAIN: "submit the document again",
    NextAction.START_ORCHESTRATOR: "start an orchestrator with this database",
    NextAction.ADD_WORKERS: "give the pool of this stage a worker",
    NextAction.RESTORE_SERVICE: "bring back what the workers wait for: they go on by themselves then",
}


class JobExplanation(BaseModel):
    """Why a job's document is not searchable yet, or that it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    job_id: str
    tenant: TenantId
    media_id: str
    source: str | None = None
    status: JobStatus
    model: str = Field(default="", description="The model that embeds it.")
    route: str | None = Field(default=None, description="Why that model; None: its caller named it.")
    searchable: bool = Field(description="Searches find this version of the document.")
    cause: Cause
    answer: str = Field(description="The whole answer, in one line.")
    stage: Stage | None = Field(default=None, description="The earliest stage with work left; None: ended.")
    jobs_ahead: int = Field(default=0, description="Jobs of the tenant that go first.")
    tokens_ahead: int = Field(default=0, description="About what is left of them, in tokens.")
    tasks_ahead: int | None = Field(
        default=None, description="Tasks of the tenant before it in the queue of the stage; None: not known."
    )
    tokens_left: int = Field(default=0, description="About what is left of the job itself, in tokens.")
    other_tenants: int = Field(default=0, description="Other tenants with work, which share the workers.")
    share: float = Field(default=1.0, description="The tenant's part of the workers, 0 to 1.")
    eta_seconds: float | None = Field(
        default=None, description="About how long until it is searchable; None: it cannot be told."
    )
    attempts: int | None = Field(
        default=None, description="How often a worker took its present task; None: not known here."
    )
    last_error: str | None = Field(default=None, description="Why the last try failed, or the job.")
    retry_in_seconds: float | None = Field(default=None, description="The pause until the next try.")
    next_action: NextAction
    advice: str = Field(description="The next action in words.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json", by_alias=True)


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of a stage on all hosts. `trouble`: what they wait for, if they can do no work."""

    power: StagePower
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class KnownOfJob:
    """What was read of a job. `tasks` are its tasks in the queue of its stage; None: they are not known here.

    `is_live`: readers see the version that the job made. `other_is_live`: they see another one. `replaced`: a
    later version was submitted. `pools` has every stage before a search. `share_is_full`: the tenant has its
    share of the embedding queue waiting there, so that chunking passes it over. `waits_for_model`: the
    tenant is switched to another model, and the job ends together with its twin for this one; None: alone.
    """

    info: JobInfo
    is_live: bool
    other_is_live: bool
    replaced: bool
    deleted: bool
    offered: bool
    offers_ahead: int
    running: bool
    pools: Mapping[Stage, Pool]
    jobs_ahead: int
    work: WorkAhead
    tokens_left: float
    other_tenants: int
    tasks: Sequence[QueuedTask] | None = field(default=None)
    share_is_full: bool = False
    waits_for_model: str | None = None


_STAGES = {
    JobStatus.PENDING: Stage.CHUNKING,
    JobStatus.CHUNKING: Stage.CHUNKING,
    JobStatus.EMBEDDING: Stage.EMBEDDING,
    JobStatus.STORING: Stage.STORAGE,
}
"""The stage in which an unfinished job has work left."""

BEFORE_SEARCH = (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE)
"""The stages that a document passes until searches find it."""


def stage_of(status: JobStatus) -> Stage | None:
    """Return the earliest stage in which a job of this status has work left; None if it has ended."""
    return _STAGES.get(status)


def stages_left(status: JobStatus) -> Sequence[Stage]:
    """Return the stages that a job of this status has to pass before searches find its document, in order."""
    stage = stage_of(status)
    return () if stage is None else BEFORE_SEARCH[BEFORE_SEARCH.index(stage) :]


def explain(known: KnownOfJob) -> JobExplanation:
    """Return why the document is, or is not, searchable."""
    return _of_ended(known) if known.info.status.terminal else _of_unfinished(known)


def _of_ended(known: KnownOfJob) -> JobExplanation:
    info = known.info
    if known.deleted:
        return _answer(known, Cause.DELETED, "the document was deleted", NextAction.SUBMIT_AGAIN)
    if known.is_live:
        lacks = "" if info.reason is None or info.status is JobStatus.COMPLETED else f", but {info.reason}"
        action = NextAction.RETRY_JOB if lacks else NextAction.NONE
        return _answer(known, Cause.SEARCHABLE, f"searches find it{lacks}", action)
    if known.replaced:
        why = "a later version of the document was submitted: ask for the job of that one"
        return _answer(known, Cause.REPLACED, why, NextAction.NONE)
    reason = f": {info.reason}" if info.reason else ""
    if known.other_is_live:
        reason += "; searches find the version before"
    if info.status is JobStatus.CANCELLED:
        return _answer(known, Cause.CANCELLED, f"the job was cancelled{reason}", NextAction.RETRY_JOB)
    return _answer(known, Cause.FAILED, f"the job failed{reason}", NextAction.RETRY_JOB)


def _of_unfinished(known: KnownOfJob) -> JobExplanation:
    stage = _STAGES[known.info.status]
    if not known.running:
        why = f"{_done(known)}; it waits in {stage} for an orchestrator: none is running with this database"
        return _answer(known, Cause.NO_ORCHESTRATOR, why, NextAction.START_ORCHESTRATOR)
    for one in stages_left(known.info.status):
        pool = known.pools[one]
        if not pool.power.workers:
            why = f"{_done(known)}; no host has a worker for {one}"
            return _answer(known, Cause.NO_WORKERS, why, NextAction.ADD_WORKERS)
        if pool.trouble is not None:
            why = f"{_done(known)}; the {one} workers wait: {pool.trouble}"
            return _answer(known, Cause.SERVICE_AWAY, why, NextAction.RESTORE_SERVICE, error=pool.trouble)
    return _of_queued(known, stage)


def _of_queued(known: KnownOfJob, stage: Stage) -> JobExplanation:
    """Explain a job that nothing hinders."""
    if known.waits_for_model is not None and _is_stored(known):
        why = (
            f"{_done(known)}; its tenant is switched to another model, and searches find it "
            f"once model {known.waits_for_model} has embedded it too"
        )
        return _answer(known, Cause.OTHER_MODEL, why, NextAction.WAIT)
    if not known.offered:
        why = f"it is about to be offered to the workers; {known.offers_ahead} jobs are offered before it"
        return _answer(known, Cause.OFFER_PENDING, why, NextAction.WAIT)
    tasks = known.tasks or ()
    delayed = [task for task in tasks if task.state is TaskState.DELAYED]
    if delayed and len(delayed) == len(tasks):
        first = min(delayed, key=lambda task: task.seconds or 0.0)
        why = f"{_done(known)}; a try in {stage} failed, and the next one is in {first.seconds or 0:.0f} s"
        return _answer(known, Cause.RETRY_PAUSE, why, NextAction.WAIT)
    if any(task.state is TaskState.LEASED for task in tasks):
        return _answer(known, Cause.IN_WORK, f"{_done(known)}; a worker has it in hand", NextAction.WAIT)
    if stage is Stage.CHUNKING and known.share_is_full:
        why = f"{_done(known)}; its tenant's share of the embedding queue is full: it is cut as that empties"
        return _answer(known, Cause.SHARE_IS_FULL, why, NextAction.WAIT)
    return _answer(known, Cause.IN_LINE, f"{_done(known)}; {_line(known, stage)}", NextAction.WAIT)


def _is_stored(known: KnownOfJob) -> bool:
    progress = known.info.progress
    return progress.sealed and progress.chunks_stored + progress.chunks_dead == progress.chunks_total


def _done(known: KnownOfJob) -> str:
    """Say how far the job is."""
    progress = known.info.progress
    if not progress.chunks_total:
        return "nothing of it is cut into chunks yet"
    so_far = "" if progress.sealed else " so far"
    return (
        f"{progress.chunks_stored} of {progress.chunks_total} chunks{so_far} are stored, "
        f"{progress.chunks_embedded} embedded"
    )


def _line(known: KnownOfJob, stage: Stage) -> str:
    """Say what the job waits for in the queue of its stage."""
    if known.jobs_ahead:
        first = f"{known.jobs_ahead} jobs of its tenant (about {_ahead(known):,} tokens) go first"
    else:
        first = "it is the first of its tenant"
    return f"{first} in {stage}, and {_sharing(known)}"


def _sharing(known: KnownOfJob) -> str:
    if not known.other_tenants:
        return "no other tenant has work"
    share = f"{known.work.share:.0%} of the workers are for its tenant"
    return f"{known.other_tenants} other tenants have work too: {share}"


def _ahead(known: KnownOfJob) -> int:
    return round(max(0.0, known.work.own - known.tokens_left))


def _answer(
    known: KnownOfJob, cause: Cause, why: str, action: NextAction, *, error: str | None = None
) -> JobExplanation:
    info = known.info
    waits = action is NextAction.WAIT
    seconds = _seconds(known) if waits else None
    unfinished = not info.status.terminal
    delayed = [task.seconds for task in known.tasks or () if task.seconds is not None]
    return JobExplanation(
        job_id=info.job_id,
        tenant=info.tenant,
        media_id=info.media_id,
        source=info.source,
        status=info.status,
        model=info.model,
        route=info.route,
        searchable=known.is_live and not known.deleted,
        cause=cause,
        answer=f"{why}{_about(seconds) if waits else ''}",
        stage=_STAGES.get(info.status),
        jobs_ahead=known.jobs_ahead if unfinished else 0,
        tokens_ahead=_ahead(known) if unfinished else 0,
        tasks_ahead=min((task.ahead for task in known.tasks or () if task.ahead is not None), default=None),
        tokens_left=round(known.tokens_left) if unfinished else 0,
        other_tenants=known.other_tenants if unfinished else 0,
        share=known.work.share if unfinished else 1.0,
        eta_seconds=seconds,
        attempts=None if known.tasks is None else max((task.attempt for task in known.tasks), default=0),
        last_error=error or _last_error(known),
        retry_in_seconds=min(delayed, default=None),
        next_action=action,
        advice=_WORDS[action],
    )


def _seconds(known: KnownOfJob) -> float | None:
    powers = {stage.value: known.pools[stage].power for stage in BEFORE_SEARCH}
    return eta.two_digits(eta.seconds_left(known.work, eta.pace(powers)))


def _about(seconds: float | None) -> str:
    if seconds is None:
        return "; how long it takes is not known, as no rate of the workers is measured yet"
    return f"; about {max(1, round(seconds)):,} s"


def _last_error(known: KnownOfJob) -> str | None:
    of_tasks = next((task.reason for task in known.tasks or () if task.reason), None)
    ended_badly = known.info.status.terminal and known.info.status is not JobStatus.COMPLETED
    return of_tasks or (known.info.reason if ended_badly else None)
