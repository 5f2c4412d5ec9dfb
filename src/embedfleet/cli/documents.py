"""`embedfleet documents list|show|delete`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, Tenant, settings_from
from embedfleet.cli.output import PARTLY_DONE, print_json, say, say_fields, say_table, warn

if TYPE_CHECKING:
    from embedfleet.queue_schemas import DocumentInfo
    from embedfleet.settings import Settings

_MOST_NAMED = 5  # of the documents that an ambiguous name may mean

app = typer.Typer(help="What can be searched; delete what should not be.", no_args_is_help=True)


@app.command("list")
def list_documents(
    tenant: Tenant = None, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """All documents that are not deleted, by source (or media id): `live` ones are found by searches."""
    from embedfleet.bootstrap import open_guest

    settings = settings_from(data_dir, config)

    async def look() -> list[DocumentInfo]:
        async with open_guest(settings) as guest:
            jobs = guest.jobs.of(tenant or settings.tenants.default_tenant)
            return [document async for document in jobs.all_documents()]

    found = sorted(asyncio.run(look()), key=_shown_name)
    if as_json:
        print_json({"documents": [one.json_document() for one in found]})
        return
    rows = [(_shown_name(one), one.model, one.state.value) for one in found]
    say_table(("source", "model", "state"), rows)


@app.command("show")
def show(
    source: Annotated[
        str, typer.Argument(help="A source as `documents list` shows it or its end, or a media id.")
    ],
    tenant: Tenant = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Everything known about one document, and what of its source is not in its text."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.errors import InvalidRequest

    settings = settings_from(data_dir, config)
    owner = tenant or settings.tenants.default_tenant

    async def look() -> DocumentInfo | None:
        async with open_guest(settings) as guest:
            known = [document async for document in guest.jobs.of(owner).all_documents()]
        media_id = _Named(source).media_id(known)
        return next((one for one in known if one.media_id == media_id), None)

    document = asyncio.run(look())
    if document is None:
        raise InvalidRequest(_no_document(owner, source))
    if as_json:
        print_json({"document": document.json_document()})
    else:
        say_fields(document.model_dump(by_alias=True, exclude={"account"}), document.account)


def _no_document(tenant: str, names: str) -> str:
    return f"tenant `{tenant}` has no document {names}: `embedfleet documents list` shows those there are"


def _shown_name(document: DocumentInfo) -> str:
    return document.source or document.media_id


@app.command("delete")
def delete(
    sources: Annotated[
        list[str], typer.Argument(help="Sources as `documents list` shows them or their ends, or media ids.")
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
    problem = _no_document(owner, ", ".join(unknown))
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
    """A document as the user names it: by source, by a path from the current folder, by media id, or by the
    end of a source."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = os.path.abspath(Path(name).expanduser())

    def media_id(self, known: Sequence[DocumentInfo]) -> str:
        """The media id that is meant. A name that is no source is taken as one.

        Raises InvalidRequest if it is the end of several sources.
        """
        from embedfleet.errors import InvalidRequest

        for one in known:
            if one.source in (self.name, self._path) or one.media_id == self.name:
                return one.media_id
        ends = [one for one in known if one.source is not None and one.source.endswith(f"/{self.name}")]
        if len(ends) > 1:
            some = ", ".join(sorted(one.source or "" for one in ends)[:_MOST_NAMED])
            raise InvalidRequest(f"{len(ends)} documents end in {self.name}: {some}: name one of them whole")
        return ends[0].media_id if ends else self.name


async def _delete(settings: Settings, tenant: str, named: Sequence[_Named]) -> tuple[list[str], list[str]]:
    from embedfleet.bootstrap import open_guest
    from embedfleet.cli.workers_host import WorkersHost, work_until

    deleted: list[str] = []
    unknown: list[str] = []
    async with open_guest(settings) as guest:
        jobs = guest.jobs.of(tenant)
        known = [document async for document in jobs.all_documents()]
        for document in named:
            done = await jobs.delete_document(media_id=document.media_id(known))
            (deleted if done else unknown).append(document.name)
        if deleted:
            host = WorkersHost(settings, purpose="embedfleet documents delete", announce=warn)
            await work_until(host, guest.jobs.of_all_tenants().wait_for_cleanups)
    return deleted, unknown
