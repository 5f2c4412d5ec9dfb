"""`embedfleet explain`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.documents import find_media_id
from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import print_json, readable, say
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.explanation import JobExplanation

_JOB = re.compile(r"job_[0-9a-f]*")

# The fields that say more than the answer, in the order of the lines.
_SHOWN = {
    "job_id": "job",
    "status": "status",
    "model": "model",
    "route": "model by",
    "stage": "stage",
    "jobs_ahead": "jobs ahead",
    "tasks_ahead": "tasks ahead",
    "eta_seconds": "ETA (s)",
    "attempts": "attempts",
    "last_error": "last error",
    "retry_in_seconds": "next try (s)",
}


@somewhere
def explain(
    place: Place,
    what: Annotated[
        str,
        typer.Argument(
            help="A job's id or a start of it; a document's source as `documents list` shows it, its end, "
            "or its media id."
        ),
    ],
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Why is it not searchable yet? Where it is, what goes first, how long it takes, and what to do."""

    async def look(system: System) -> JobExplanation:
        if _JOB.fullmatch(what):
            jobs = await system.jobs(tenant)
            return await system.explain_job(tenant, await jobs.find_job_id(what))
        owner = await system.tenant(tenant)
        return await system.explain_document(owner, await find_media_id(system, owner, what))

    found = with_system(place, look)
    if as_json:
        print_json({"explanation": found.json_document()})
        return
    say(f"{found.source or found.media_id}: {found.answer}")
    for name, shown in _SHOWN.items():
        value = getattr(found, name)
        if value is not None:
            say(f"{shown:<12} {readable(value)}")
    say(f"{'next':<12} {found.advice}")
