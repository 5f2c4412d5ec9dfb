"""`embedfleet documents list|show|delete|receipt`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.filter_options import After, Before, SourcePrefix, WhereOption, document_filter
from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import PARTLY_DONE, print_json, say, say_fields, say_table, warn
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.receipts import say_receipt, say_what_is_left, show_receipts
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.queue_schemas import DocumentInfo, Receipt

_MOST_NAMED = 5  # of the documents that an ambiguous name may mean

app = typer.Typer(help="What can be searched; delete what should not be.", no_args_is_help=True)


@app.command("list")
@somewhere
def list_documents(
    place: Place,
    tenant: Tenant = None,
    where: WhereOption = None,
    source: SourcePrefix = None,
    created_after: After = None,
    created_before: Before = None,
    as_json: AsJson = False,
) -> None:
    """All documents that are not deleted, by source (or media id): `live` ones are found by searches."""
    matching = document_filter(where=where, source=source, after=created_after, before=created_before)

    async def look(system: System) -> list[DocumentInfo]:
        jobs = await system.jobs_of(await system.tenant(tenant))
        return [document async for document in jobs.all_documents(matching=matching)]

    found = sorted(with_system(place, look), key=_shown_name)
    if as_json:
        print_json({"documents": [one.json_document() for one in found]})
        return
    rows = [(_shown_name(one), one.model, one.state.value) for one in found]
    say_table(("source", "model", "state"), rows)


@app.command("show")
@somewhere
def show(
    place: Place,
    source: Annotated[
        str, typer.Argument(help="A source as `documents list` shows it or its end, or a media id.")
    ],
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Everything known about one document, and what of its source is not in its text."""
    from embedfleet.errors import InvalidRequest

    async def look(system: System) -> DocumentInfo:
        owner = await system.tenant(tenant)
        known = await _documents_of(system, owner)
        media_id = _Named(source).media_id(known)
        for one in known:
            if one.media_id == media_id:
                return one
        raise InvalidRequest(_no_document(owner, source))

    document = with_system(place, look)
    if as_json:
        print_json({"document": document.json_document()})
    else:
        say_fields(document.model_dump(by_alias=True, exclude={"account"}), document.account)


async def _documents_of(system: System, tenant: str) -> list[DocumentInfo]:
    return [document async for document in (await system.jobs_of(tenant)).all_documents()]


async def find_media_id(system: System, tenant: str, name: str) -> str:
    """The media id of the document that the user names. Raises InvalidRequest if it may be one of several."""
    return _Named(name).media_id(await _documents_of(system, tenant))


def _no_document(tenant: str, names: str) -> str:
    return f"tenant `{tenant}` has no document {names}: `embedfleet documents list` shows those there are"


def _shown_name(document: DocumentInfo) -> str:
    return document.source or document.media_id


@app.command("delete")
@somewhere
def delete(
    place: Place,
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Sources as `documents list` shows them or their ends, or media ids."),
    ] = None,
    tenant: Tenant = None,
    where: WhereOption = None,
    source: SourcePrefix = None,
    created_after: After = None,
    created_before: Before = None,
    as_json: AsJson = False,
) -> None:
    """Delete documents with their texts, chunks, vectors and jobs, and search for what is left of them.

    They are named, or all those that --where, --source and the dates mean are deleted.
    """
    from embedfleet.errors import InvalidRequest

    matching = document_filter(where=where, source=source, after=created_after, before=created_before)
    if bool(sources) == matching.says_something:
        raise InvalidRequest("name documents, or say by options which ones are meant, not both")

    async def act(system: System) -> _Deletion:
        owner = await system.tenant(tenant)
        if sources:
            return await _delete(system, owner, [_Named(name) for name in sources])
        requested = await (await system.jobs_of(owner)).delete_documents(matching=matching)
        return await _searched(system, owner, requested, [])

    done = with_system(place, act)
    deleted, unknown = done.deleted, done.unknown
    problem = _no_document(done.tenant, ", ".join(unknown) if sources else "that is meant")
    if not deleted:
        raise InvalidRequest(problem)
    receipts = list(deleted.values())
    if as_json:
        documents = [receipt.json_document() for receipt in receipts]
        print_json({"deleted": list(deleted), "unknown": unknown, "receipts": documents})
    else:
        say(f"deleted: {', '.join(deleted)}")
        for receipt in receipts:
            say(f"receipt: {receipt.receipt_id} ({receipt.state})")
    if unknown:
        warn(f"error: {problem}")
    if say_what_is_left(receipts) or unknown:
        raise SystemExit(PARTLY_DONE)


@app.command("receipt")
@somewhere
def receipt(
    place: Place,
    receipt_id: Annotated[
        str | None, typer.Argument(metavar="[RECEIPT]", help="Its id. Without one, the newest are listed.")
    ] = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """What a deletion found: how much there was, what is left where, and which backups may hold it."""

    async def look(system: System) -> Sequence[Receipt]:
        jobs = await system.jobs_of(await system.tenant(tenant))
        return await jobs.list_receipts() if receipt_id is None else [await jobs.receipt(receipt_id)]

    found = with_system(place, look)
    if receipt_id is None:
        show_receipts(found, as_json=as_json)
    elif as_json:
        print_json({"receipt": found[0].json_document()})
    else:
        say_receipt(found[0])


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


@dataclass(frozen=True, slots=True)
class _Deletion:
    """The receipts of the deleted documents, by the names that were given, and the names of unknown ones."""

    tenant: str
    deleted: dict[str, Receipt]
    unknown: list[str]


async def _delete(system: System, tenant: str, named: Sequence[_Named]) -> _Deletion:
    """Delete these documents, and wait until each was searched for what is left of it."""
    jobs = await system.jobs_of(tenant)
    known = await _documents_of(system, tenant)
    requested: dict[str, str] = {}
    unknown: list[str] = []
    for document in named:
        receipt_id = await jobs.delete_document(media_id=document.media_id(known))
        if receipt_id is None:
            unknown.append(document.name)
        else:
            requested[document.name] = receipt_id
    return await _searched(system, tenant, requested, unknown)


async def _searched(
    system: System, tenant: str, requested: Mapping[str, str], unknown: list[str]
) -> _Deletion:
    """Wait until each document was searched for what is left of it. `requested` has receipts, by name."""
    found = await system.searched_receipts(
        tenant, list(requested.values()), purpose="embedfleet documents delete", announce=warn
    )
    return _Deletion(tenant, dict(zip(requested, found, strict=True)), unknown)
