"""Runs an ended job again. The vectors that it stored are kept; the chunks that failed are tried again.

The caller holds the job's lock (`jobs.lock`), so the job cannot change between the checks and the new run.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from embedfleet.chunking.chunker import PARTITION_VERSION
from embedfleet.errors import InvalidRequest
from embedfleet.lifecycle import ending
from embedfleet.lifecycle.admission import new_job_id
from embedfleet.queue_schemas import JobStatus
from embedfleet.records import (
    dead_letters,
    documents,
    generations,
    job_completion,
    jobs,
    model_switches,
    twins,
)
from embedfleet.records.generations import Generation
from embedfleet.records.jobs import Job, NewJob
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.sql.states import GenerationState, SwitchPhase


def retry(conn: Connection, job: Job, now: float) -> None:
    """Make an ended job pending again, as its next run.

    Raises InvalidRequest if the job has not ended or has nothing left to do, if its document was deleted or
    has a newer generation, or if its file could not be read.
    """
    newest = _newest_generation(conn, job)
    if newest.state is GenerationState.RETIRED:
        # The vectors of a retired generation may be deleted already. So cut the document again, and look up
        # each chunk.
        jobs.restart_partition(conn, job.job_id, now)
        generations.set_generation_state(conn, [job.generation_id], GenerationState.BUILDING)
        if job.switch_id is None:
            # The other space of a switch may have got a copy of an older version since, with a higher number.
            generations.make_newest(conn, newest)
        _begin_twin(conn, job, newest, now)
    job_completion.reopen(conn, job.job_id, now)


def requeue(conn: Connection, job: Job, dead_letter_ids: Sequence[int], now: float) -> None:
    """Retry the job because of these dead letters, or because of any open one if no ids are given.

    Raises InvalidRequest as `retry` does, and if none of the letters is left to requeue.
    """
    if not dead_letters.any_to_requeue(conn, job.job_id, dead_letter_ids):
        raise InvalidRequest(f"job {job.job_id}: no dead letter is left to requeue")
    retry(conn, job, now)


def _newest_generation(conn: Connection, job: Job) -> generations.Generation:
    """Return the job's generation, the newest of its document. Raises InvalidRequest as `retry` does."""
    job_id = job.job_id
    if not job.status.terminal:
        raise InvalidRequest(f"job {job_id} is still {job.status}: wait for it or cancel it first")
    if job.status is JobStatus.COMPLETED:
        raise InvalidRequest(f"job {job_id} is completed: there is nothing to retry")
    if documents.is_deleted(conn, job.document_id):
        raise InvalidRequest(f"job {job_id}: its document was deleted: submit it again if it is wanted")
    made = generations.generations_of(conn, job.document_id)
    mine = next((one for one in made if one.generation_id == job.generation_id), None)
    switch = model_switches.running_of(conn, [job.tenant]).get(job.tenant)
    newest = None if mine is None else _newest_in_spaces(made, mine, switch)
    if mine is None or newest != mine:
        raise InvalidRequest(f"job {job_id}: a newer version of its document was submitted")
    if mine.unreadable:
        raise InvalidRequest(f"job {job_id}: its file could not be read: mend it and ingest it again")
    _require_space(job, mine, made, switch)
    return mine


def _newest_in_spaces(
    made: Sequence[Generation], mine: Generation, switch: ModelSwitch | None
) -> Generation | None:
    """Return the newest generation of the document that is `mine` or would replace it.

    While the tenant is switched to another model, each of the two sides has generations of its own.
    """
    beside = () if switch is None else switch.beside(mine.collection)
    return next((one for one in made if one.collection not in beside), None)


def _require_space(
    job: Job, mine: Generation, made: Sequence[Generation], switch: ModelSwitch | None
) -> None:
    """Raise InvalidRequest if a switch to another model does not let the job run again."""
    if job.switch_id is not None and (switch is None or switch.switch_id != job.switch_id):
        raise InvalidRequest(f"job {job.job_id}: the switch to another model that made it has ended")
    if switch is None:
        return
    beside = switch.beside(mine.collection)
    if not beside:
        return
    originals = [one for one in made if one.collection in beside and one.state is GenerationState.LIVE]
    if job.switch_id is None and switch.leaves_route and mine.collection == switch.to_collection:
        # It has no twin. Made now, it would stand beside the version of the route and not replace it.
        if originals and switch.main.is_route:
            raise InvalidRequest(
                f"job {job.job_id}: its document is in the space of `{originals[0].collection.model}`, and "
                f"the tenant is being switched to `{mine.collection.model}`: submit the document again"
            )
        return
    if switch.phase is SwitchPhase.RETIRING and mine.collection in switch.emptied:
        raise InvalidRequest(
            f"job {job.job_id}: the space of `{mine.collection.model}` is being emptied: "
            "submit its document again"
        )
    if job.switch_id is not None and not any(one.recipe.same_outcome(mine.recipe) for one in originals):
        raise InvalidRequest(
            f"job {job.job_id}: try the submitted job of its document again: this one copies it"
        )


def _begin_twin(conn: Connection, job: Job, mine: Generation, now: float) -> None:
    """Have the version made in the other space of a switch, too, as when it was submitted."""
    switch = model_switches.running_of(conn, [job.tenant]).get(job.tenant)
    if switch is None or not switch.writes_both or job.switch_id is not None:
        return
    made = generations.generations_of(conn, job.document_id)
    there = [one.collection for one in made if one.state is GenerationState.LIVE]
    beside = next((one for one in switch.places(mine.collection, there) if one != mine.collection), None)
    if beside is None:
        return
    ending.end_twins_of(conn, [job], now)
    twin_id = twins.add_beside(conn, mine, beside, chunker_version=PARTITION_VERSION)
    jobs.create(
        conn,
        [
            NewJob(
                job_id=new_job_id(now),
                tenant=job.tenant,
                document_id=job.document_id,
                generation_id=twin_id,
                user_tier=job.user_tier,
                priority=job.priority,
                created_at=now,
                switch_id=switch.switch_id,
            )
        ],
    )
