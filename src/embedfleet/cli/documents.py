"""`embedfleet documents list|delete`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, Tenant, settings_from
from embedfleet.cli.output import PARTLY_DONE, print_json, say, warn

if TYPE_CHECKING:
    from embedfleet.settings import Settings

app = typer.Typer(help="What can be searched; delete what should not be.", no_args_is_help=True)


@app.command("list")
def list_documents(
    tenant: Tenant = None, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """The documents that searches find, by source."""
    from embedfleet.bootstrap import open_guest

    settings = settings_from(data_dir, config)

    async def look() -> dict[str, str]:
        async with open_guest(settings) as guest:
            return await guest.jobs.of(tenant or settings.tenants.default_tenant).list_sources()

    found = sorted(asyncio.run(look()).items())
    if as_json:
        print_json({"documents": [{"source": source, "media_id": media} for source, media in found]})
        return
    for source, _media in found:
        say(source)


@app.command("delete")
def delete(
    sources: Annotated[
        list[str], typer.Argument(help="Sources as `documents list` shows them, or media ids.")
    ],
    tenant: Tenant = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Delete documents with their texts, chunks, vectors and jobs."""
    from embedfleet.errors import InvalidRequest

    settings = settings_from(data_dir, config)
    owner = tenant or settings.tenants.default_tenant
    deleted, unknown = asyncio.run(_delete(settings, owner, [_Named(name) for name in sources]))
    problem = (
        f"tenant `{owner}` has no document {', '.join(unknown)}: "
        "`embedfleet documents list` shows those there are"
    )
    if not deleted:
        raise InvalidRequest(problem)
    if as_json:
        print_json({"deleted": deleted, "unknown": unknown})
    else:
        say(f"deleted: {', '.join(deleted)}")
    if unknown:
        warn(f"error: {problem}")
        raise SystemExit(PARTLY_DONE)


class _Named:
    """A document as the user names it: by source, by a path from the current folder, or by media id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = os.path.abspath(Path(name).expanduser())

    def media_id(self, known: Mapping[str, str]) -> str:
        """`known`: media ids by source. A name that is no source is taken as a media id."""
        return known.get(self.name) or known.get(self._path) or self.name


async def _delete(settings: Settings, tenant: str, named: Sequence[_Named]) -> tuple[list[str], list[str]]:
    from embedfleet.bootstrap import open_guest
    from embedfleet.cli.workers_host import WorkersHost, work_until

    deleted: list[str] = []
    unknown: list[str] = []
    async with open_guest(settings) as guest:
        jobs = guest.jobs.of(tenant)
        known = await jobs.list_sources()
        for document in named:
            done = await jobs.delete_document(media_id=document.media_id(known))
            (deleted if done else unknown).append(document.name)
        if deleted:
            host = WorkersHost(settings, purpose="embedfleet documents delete", announce=warn)
            await work_until(host, guest.jobs.of_all_tenants().wait_for_cleanups)
    return deleted, unknown
