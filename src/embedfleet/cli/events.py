"""`embedfleet events`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.guest import jobs_for
from embedfleet.cli.options import AnyTenant, AsJson, ConfigFile, DataDir, settings_from
from embedfleet.cli.output import print_json, print_json_line, readable_time, reader_ended, say

if TYPE_CHECKING:
    from embedfleet.queue_schemas import JobEvent
    from embedfleet.settings import Settings


def events(
    tenant: AnyTenant = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Only those beyond this position.")] = 0,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new ones, until interrupted.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """How jobs ended, in order.

    With --follow --json: one JSON object in each line. An event may come twice, with the same `event_id`.
    """
    settings = settings_from(data_dir, config)
    if follow:
        asyncio.run(_follow(settings, tenant, after, as_json=as_json))
        return
    found = asyncio.run(_read(settings, tenant, after, limit))
    if as_json:
        print_json({"events": [event.json_document() for event in found]})
        return
    for event in found:
        say(_line(event))


async def _read(settings: Settings, tenant: str | None, after: int, limit: int) -> list[JobEvent]:
    from embedfleet.bootstrap import open_guest

    async with open_guest(settings) as guest:
        return await jobs_for(guest.jobs, tenant).events(after=after, limit=limit)


async def _follow(settings: Settings, tenant: str | None, after: int, *, as_json: bool) -> None:
    from embedfleet.bootstrap import open_guest

    async with open_guest(settings) as guest:
        async for event in jobs_for(guest.jobs, tenant).follow_events(after=after):
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
