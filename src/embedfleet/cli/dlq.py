"""`embedfleet dlq list|show|requeue|purge`: what workers gave up, and what an operator does about it."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AnyTenant, AsJson
from embedfleet.cli.output import PARTLY_DONE, confirm, print_json, readable, say, say_table, warn
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_jobs

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import Jobs
    from embedfleet.queue_schemas import DeadLetterInfo

app = typer.Typer(
    help="Dead letters: what was given up. Look, run again, or accept the loss.", no_args_is_help=True
)

_MAX_LETTERS = 100_000


class StageFilter(StrEnum):
    """The values of Stage that leave dead letters (not imported here, as that would slow down `--help`)."""

    CHUNKING = "chunking"
    EMBEDDING = "embedding"
    STORAGE = "storage"


Ids = Annotated[list[int] | None, typer.Argument(help="Letters, as `dlq list` numbers them.")]
JobOption = Annotated[
    str | None, typer.Option("--job", help="Those of this job, by its id or the start of it.")
]
StageOption = Annotated[StageFilter | None, typer.Option("--stage", help="Only those of this stage.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
@somewhere
def list_letters(
    place: Place,
    tenant: AnyTenant = None,
    job: JobOption = None,
    stage: StageOption = None,
    ended: Annotated[bool, typer.Option("--ended", help="Also those requeued or purged.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=_MAX_LETTERS, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Open dead letters, newest first."""
    found = with_jobs(place, tenant, lambda jobs: _list(jobs, job, stage, limit, ended=ended))
    if as_json:
        print_json({"dead_letters": [letter.json_document() for letter in found]})
        return
    _show_table(found)


@app.command("show")
@somewhere
def show(
    place: Place,
    dead_letter_id: Annotated[int, typer.Argument(help="Its number in `dlq list`.")],
    tenant: AnyTenant = None,
    as_json: AsJson = False,
) -> None:
    """Everything known about one dead letter, but its text."""
    letter = with_jobs(place, tenant, lambda jobs: jobs.get_dead_letter(dead_letter_id))
    if as_json:
        print_json({"dead_letter": letter.json_document()})
        return
    for name, value in letter.model_dump(by_alias=True).items():
        if name != "schema_version":
            say(f"{name:<14} {readable(value)}")


@app.command("requeue")
@somewhere
def requeue(
    place: Place,
    ids: Ids = None,
    tenant: AnyTenant = None,
    job: JobOption = None,
    every: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    stage: StageOption = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Run the jobs of these letters again; this requeues all letters of each job.

    A running orchestrator takes them up, or the next one that starts.
    """
    _require_one_of(ids=ids, job=job, all=every)
    _require_all_for_stage(stage, every)
    if every:
        confirm("Run the jobs of all open dead letters again?", yes=yes)

    async def act(jobs: Jobs) -> tuple[list[str], list[tuple[str, str]]]:
        wanted = await _open_ids(jobs, stage) if every else ids or None
        if every and not wanted:
            return [], []
        done = await jobs.requeue_dead_letters(wanted, job_id=await _whole_id(jobs, job))
        return list(done.jobs), [(one.job_id, one.reason) for one in done.refused]

    done, refused = with_jobs(place, tenant, act)
    if as_json:
        print_json({"requeued": done, "refused": [{"job_id": name, "reason": why} for name, why in refused]})
    else:
        for name in done:
            say(f"{name} is pending again")
        if not done:
            say("no dead letter is open")
    if refused:
        for _, why in refused:
            warn(f"error: {why}")
        raise SystemExit(PARTLY_DONE)


@app.command("purge")
@somewhere
def purge(
    place: Place,
    ids: Ids = None,
    tenant: AnyTenant = None,
    job: JobOption = None,
    before: Annotated[datetime | None, typer.Option("--before", help="Given up before then (UTC).")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    stage: StageOption = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Accept the loss: the letters are no longer open; their jobs still name the missing ranges."""
    _require_one_of(ids=ids, job=job, before=before, all=every)
    _require_all_for_stage(stage, every)
    if every or before is not None:
        confirm("Accept the loss of these dead letters?", yes=yes)
    until = None if before is None else before.replace(tzinfo=UTC)

    async def act(jobs: Jobs) -> int:
        wanted = await _open_ids(jobs, stage) if every else ids or None
        return await jobs.purge_dead_letters(wanted, job_id=await _whole_id(jobs, job), before=until)

    purged = with_jobs(place, tenant, act)
    if as_json:
        print_json({"purged": purged})
    else:
        say(f"{purged} purged")


def _require_one_of(**given: object) -> None:
    named = [name for name, value in given.items() if value]
    if len(named) != 1:
        choices = " or ".join("IDS" if name == "ids" else f"--{name}" for name in given)
        raise typer.BadParameter(f"name the dead letters by one of {choices}")


def _require_all_for_stage(stage: StageFilter | None, every: bool) -> None:
    if stage is not None and not every:
        raise typer.BadParameter("--stage narrows down --all: name both")


async def _list(
    jobs: Jobs,
    job: str | None,
    stage: StageFilter | None,
    limit: int,
    *,
    ended: bool = False,
) -> list[DeadLetterInfo]:
    from embedfleet.queue_schemas import Stage

    wanted = None if stage is None else Stage(stage.value)
    job_id = await _whole_id(jobs, job)
    return await jobs.list_dead_letters(job_id=job_id, stage=wanted, limit=limit, ended=ended)


async def _whole_id(jobs: Jobs, job: str | None) -> str | None:
    return None if job is None else await jobs.find_job_id(job)


async def _open_ids(jobs: Jobs, stage: StageFilter | None) -> list[int]:
    return [one.dead_letter_id for one in await _list(jobs, None, stage, _MAX_LETTERS)]


def _show_table(found: list[DeadLetterInfo]) -> None:
    say_table(("id", "job", "tenant", "stage", "where", "reason"), map(_cells, found))


def _cells(letter: DeadLetterInfo) -> tuple[str, ...]:
    place = letter.source or letter.media_id
    if letter.start is not None:
        place += f" [{letter.start}:{letter.end}]"
    reason = letter.reason + (f" ({letter.ended})" if letter.ended else "")
    return (str(letter.dead_letter_id), letter.job_id, letter.tenant, letter.stage, place, reason)
