"""`embedfleet events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AnyTenant, AsJson
from embedfleet.cli.output import print_json, print_json_line, readable_time, reader_ended, say
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_jobs

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import Jobs
    from embedfleet.queue_schemas import JobEvent


@somewhere
def events(
    place: Place,
    tenant: AnyTenant = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Only those beyond this position.")] = 0,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new ones, until interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """How jobs ended, in order.

    With --follow --json: one JSON object in each line. An event may come twice, with the same `event_id`.
    """
    if follow:
        with_jobs(place, tenant, lambda jobs: _follow(jobs, after, as_json=as_json))
        return
    found = with_jobs(place, tenant, lambda jobs: jobs.events(after=after, limit=limit))
    if as_json:
        print_json({"events": [event.json_document() for event in found]})
        return
    for event in found:
        say(_line(event))


async def _follow(jobs: Jobs, after: int, *, as_json: bool) -> None:
    async for event in jobs.follow_events(after=after):
        if as_json:
            print_json_line(event.json_document())
        else:
            say(_line(event))
        if reader_ended():
            return


def _line(event: JobEvent) -> str:
    reason = f" ({event.reason})" if event.reason else ""
    when = readable_time(event.created_at)
    return f"{event.position}  {when}  {event.tenant}  {event.job_id}  {event.status.value}{reason}"
