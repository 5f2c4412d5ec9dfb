"""`embedfleet system`: which system a database is, and which broker and vector store it has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_here
from embedfleet.cli.output import confirm, print_json, say

if TYPE_CHECKING:
    from embedfleet.settings import Settings
    from embedfleet.system_parts import PartKind, SystemRecord

app = typer.Typer(help="Which system this database is, and which parts it has.", no_args_is_help=True)

EndedSystem = Annotated[
    str | None,
    typer.Option(
        "--take-over-from",
        metavar="SYSTEM_ID",
        help="Take over the services of this system too, whose database is gone. Its id is in the refusal.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def show(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show which queues and vectors the database records as its own, and where these settings look."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.joining import queues_place, vectors_place
    from embedfleet.records import systems
    from embedfleet.system_parts import PartKind

    settings = settings_here(data_dir, config)

    async def look() -> tuple[str, SystemRecord | None]:
        async with open_guest(settings) as guest:
            return guest.database.location, await guest.database.read(systems.recorded)

    location, system = asyncio.run(look())
    queues = queues_place(settings)
    places = {} if queues is None else {PartKind.QUEUES: queues}
    document = _document(location, system, places | {PartKind.VECTORS: vectors_place(settings)})
    if as_json:
        print_json(document)
    else:
        _print(document)


@app.command()
def move(
    take_over_from: EndedSystem = None,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make the queues and the vector store of these settings those of the database's system.

    For a Redis or a vector store that was moved by other means, and for a restored copy of a database. Every
    orchestrator must be stopped. Vectors are not copied: `embedfleet stores move` does that while the system
    works, and `embedfleet rebuild` writes them into a new store.
    """
    settings = settings_here(data_dir, config)
    confirm("Make the services of these settings the system's own?", yes=yes)
    system, changed = asyncio.run(_move(settings, take_over_from))
    if as_json:
        print_json(
            {"system_id": system.system_id, "moved": {kind: system.parts[kind].place for kind in changed}}
        )
        return
    for kind in changed:
        say(f"the {kind} of system {system.system_id} are now {system.parts[kind].place}")
    if not changed:
        say(f"nothing to do: system {system.system_id} has these parts")
    if "vectors" in changed:
        say("write the vectors into it: `embedfleet rebuild`")


async def _move(settings: Settings, ended_system: str | None) -> tuple[SystemRecord, list[PartKind]]:
    from embedfleet.bootstrap import open_parts
    from embedfleet.clock import SystemClock
    from embedfleet.errors import InvalidRequest
    from embedfleet.joining import move
    from embedfleet.records import fleet

    clock = SystemClock()
    async with open_parts(settings, purpose="system move") as (database, parts):
        running = await database.read(lambda conn: fleet.running(conn, clock.now()))
        if running:
            named = ", ".join(f"{one.host} (pid {one.pid})" for one in running)
            raise InvalidRequest(f"orchestrators run on {named} and use the parts of now: stop them first")
        return await move(database, parts, clock, ended_system=ended_system)


def _document(location: str, system: SystemRecord | None, places: dict[PartKind, str]) -> dict[str, Any]:
    from embedfleet.clock import utc

    recorded = {} if system is None else system.parts
    return {
        "system_id": None if system is None else system.system_id,
        "database": location,
        "parts": {
            kind.value: {
                "recorded": recorded[kind].place if kind in recorded else None,
                "since": utc(recorded[kind].since).isoformat() if kind in recorded else None,
                "settings": place,
            }
            for kind, place in places.items()
        },
    }


def _print(document: dict[str, Any]) -> None:
    say(f"system    {document['system_id'] or 'not recorded yet: no orchestrator has started'}")
    say(f"database  {document['database']}")
    for kind, part in document["parts"].items():
        since = "" if part["since"] is None else f" (since {part['since']})"
        say(f"{kind:<9} {part['recorded'] or 'not recorded yet'}{since}")
        if part["recorded"] != part["settings"]:
            say(f"          these settings: {part['settings']}")
