"""`embedfleet stores`: moves the vectors to another vector store while the system works."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.disk_space import confirm_with_space, megabytes, warn_of_little_space
from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_here
from embedfleet.cli.output import confirm, print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from embedfleet.records.store_moves import StoreMove
    from embedfleet.settings import Settings
    from embedfleet.store_moving.estimate import MoveEstimate
    from embedfleet.store_moving.orders import MoveStatus

app = typer.Typer(help="Move the vectors to another vector store.", no_args_is_help=True)

Kind = Annotated[
    str, typer.Option("--to", metavar="KIND", help="The kind of the target store, as in `vector_store.kind`.")
]
Url = Annotated[
    str | None, typer.Option("--url", help="Its `vector_store.url`, without a password.", show_default="none")
]
Path_ = Annotated[str | None, typer.Option("--path", help="Its `vector_store.path`.", show_default="none")]
Unseen = Annotated[
    bool,
    typer.Option("--unseen", help="Do not open the target store from here: only the leader can reach it."),
]
Leave = Annotated[
    bool,
    typer.Option("--leave", help="Do not empty that store, nor open it: what it holds stays there."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be moved, and begin nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def move(
    to: Kind,
    url: Url = None,
    path: Path_ = None,
    dry_run: DryRun = False,
    unseen: Unseen = False,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Move the vectors to another store. Documents come in and are searched all the time.

    Beside running orchestrators, this only begins the move, and they carry it out. Without any, embedded,
    this command carries it out and ends after the switch. Interrupted, it goes on when it is given again, or
    when an orchestrator runs. The previous store is kept in step until `embedfleet stores retire`.
    """
    from embedfleet.store_moving.orders import begin, target_of

    settings = settings_here(data_dir, config)
    target = target_of(settings, to, url, path)
    estimate = asyncio.run(_estimate(settings, target, opening=not unseen))
    needed, free = estimate.vector_bytes, estimate.free_bytes
    if dry_run or not as_json:
        _show_estimate(estimate, as_json=as_json)
    if dry_run:
        warn_of_little_space(needed, free)
        return
    confirm_with_space("Move the vectors there?", needed_bytes=needed, free_bytes=free, yes=yes)
    found = asyncio.run(_ordered(settings, lambda conn, now: begin(conn, settings, target, now)))
    _show(found, as_json=as_json)


@app.command()
def status(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Show how far the move is."""
    settings = settings_here(data_dir, config)
    _show(asyncio.run(_status(settings)), as_json=as_json)


@app.command()
def back(
    yes: Yes = False, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """After the switch: make the previous store the primary again. It was kept in step."""
    from embedfleet.store_moving.orders import go_back

    settings = settings_here(data_dir, config)
    _require_move(settings)
    confirm("Move the vectors back to the previous store?", yes=yes)
    _show(asyncio.run(_ordered(settings, go_back)), as_json=as_json)


@app.command()
def abort(
    leave: Leave = False,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Before the switch, or after the way back: give the move up and empty the target store.

    On the way back: stay in the new store, and keep the previous one in step.
    """
    from embedfleet.store_moving import orders

    settings = settings_here(data_dir, config)
    _require_move(settings)
    confirm(question_of_abort(leave=leave), yes=yes)
    order = partial(orders.abort, leave=leave)
    _show(asyncio.run(_ordered(settings, order)), as_json=as_json)


@app.command()
def retire(
    leave: Leave = False,
    yes: Yes = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """After the switch: empty the previous store and end the move. There is no way back from here.

    The settings of every host must name the new store before. The command checks those it runs with, and
    cannot see the others.
    """
    from embedfleet.store_moving import orders

    settings = settings_here(data_dir, config)
    _require_move(settings)
    confirm(question_of_retire(leave=leave), yes=yes)

    def order(conn: Connection, now: float) -> StoreMove:
        return orders.retire(conn, settings, now, leave=leave)

    _show(asyncio.run(_ordered(settings, order)), as_json=as_json)


def question_of_abort(*, leave: bool) -> str:
    """Return what is asked before a move is given up."""
    kept = "what was copied stays in the target store"
    deleted = "unless the vectors are on their way back, what was copied to the target store is deleted"
    return f"Call it off: {kept if leave else deleted}?"


def question_of_retire(*, leave: bool) -> str:
    """Return what is asked before the previous store is given up."""
    what = "Leave the previous store as it is" if leave else "Delete the rows of the previous store"
    return f"{what}? There is no way back."


def _require_move(settings: Settings) -> None:
    """Raise InvalidRequest if no move is under way, before anything is asked about it."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.store_moving import orders

    async def look() -> None:
        async with open_guest(settings) as guest:
            await guest.database.read(orders.require_running)

    asyncio.run(look())


async def _estimate(settings: Settings, target: Settings, *, opening: bool) -> MoveEstimate:
    from embedfleet.bootstrap import open_guest
    from embedfleet.store_moving.estimate import estimate
    from embedfleet.store_moving.orders import examine, require_possible

    async with open_guest(settings) as guest:
        await require_possible(guest.database, settings, target)
        if opening:
            await examine(guest.database, settings, target)
        return await estimate(guest.database, target)


async def _status(settings: Settings) -> MoveStatus | None:
    from embedfleet.bootstrap import open_guest
    from embedfleet.store_moving import orders

    async with open_guest(settings) as guest:
        return await guest.database.read(orders.status)


async def _ordered(settings: Settings, order: Callable[[Connection, float], StoreMove]) -> MoveStatus | None:
    """Give the order. If no orchestrator runs that would carry it out, and this system is embedded, do it."""
    from embedfleet.bootstrap import open_guest, open_mover
    from embedfleet.clock import SystemClock
    from embedfleet.data_directory import owner_of
    from embedfleet.deployment import deployment_of

    async with open_guest(settings) as guest:
        now = SystemClock().now()
        await guest.database.write(lambda conn: order(conn, now))
    if deployment_of(settings).owns_data_directory and owner_of(settings.data_dir) is None:
        async with open_mover(settings, purpose="embedfleet stores") as mover:
            await mover.step()
    return await _status(settings)


def _show_estimate(found: MoveEstimate, *, as_json: bool) -> None:
    document = {
        "to": found.place,
        "rows": found.rows,
        "vector_bytes": found.vector_bytes,
        "free_bytes": found.free_bytes,
    }
    if as_json:
        print_json(document)
        return
    free = "" if found.free_bytes is None else f"; {megabytes(found.free_bytes)} are free there"
    say(f"to        {found.place}")
    size = f"{megabytes(found.vector_bytes)} of vectors, beside texts and indexes"
    say(f"rows      {found.rows:,}: {size}{free}")


def _show(found: MoveStatus | None, *, as_json: bool) -> None:
    from embedfleet.clock import SystemClock

    if as_json:
        print_json({"move": None if found is None else _document(found)})
        return
    if found is None:
        say("the vectors never moved")
        return
    move = found.move
    say(f"move      {move.phase} since {_time(move.changed_at)}, begun {_time(move.started_at)}")
    say(f"          {_meaning(found)}")
    say(f"source    {move.places[move.source_part]}")
    say(f"target    {move.places[move.target_part]}")
    say(f"primary   the {'target' if found.switched else 'source'}, which answers searches")
    if found.progress is not None:
        rows, copied = found.progress.rows, found.progress.copied
        say(f"copied    {copied} of {rows} rows{_remaining(found, SystemClock().now())}")
    for name, meaning in _FINDINGS.items():
        if move.findings.get(name):
            say(f"{name.replace('_', ' '):<9} {move.findings[name]} rows {meaning}")


_FINDINGS = {
    "read_back": "of the target were read and found right",
    "dropped": "were deleted from the store that was given up",
    "left": "were left in the store that was given up: delete them there, receipts name them",
}


def _meaning(found: MoveStatus) -> str:
    """Return what the phase means, in a sentence, and what can be ordered now."""
    other, primary = ("source", "target") if found.switched else ("target", "source")
    call_off = "`stores abort` calls it off"
    return {
        "copying": f"rows are copied to the {other}; {call_off}",
        "verifying": f"the {other} is read and compared, then the last rows are copied; {call_off}",
        "closing": f"storage and deletion wait some seconds for the last rows; {call_off}",
        "keeping": (
            "the new store is in use, and the previous one is kept in step; `stores back` or `stores retire`"
            if found.switched
            else "the vectors are back, and the target is kept in step; `stores abort` gives it up"
        ),
        "dropping": f"the {other} is emptied; out of reach, the same order with --leave ends the move",
        "ended": f"the {primary} is the only store",
    }[found.move.phase.value]


def _remaining(found: MoveStatus, now: float) -> str:
    """Return how long the first pass of copying will take at its pace so far, while it goes on."""
    assert found.progress is not None
    left = found.progress.rows - found.progress.copied
    first = found.move.phase == "copying" and not found.move.findings and not found.move.read_to
    if not first or not left or not found.progress.copied:
        return ""
    seconds = (now - found.move.started_at) / found.progress.copied * left
    return f", about {seconds / 60:.0f} minutes more at this pace"


def _document(found: MoveStatus) -> dict[str, Any]:
    move = found.move
    times = {
        "started_at": move.started_at,
        "changed_at": move.changed_at,
        "switched_at": move.switched_at,
        "ended_at": move.ended_at,
    }
    return {
        "phase": move.phase.value,
        "switched": found.switched,
        "meaning": _meaning(found),
        "source": move.places[move.source_part],
        "target": move.places[move.target_part],
        **{name: None if at is None else _time(at) for name, at in times.items()},
        "rows": None if found.progress is None else found.progress.rows,
        "copied": None if found.progress is None else found.progress.copied,
        "findings": dict(move.findings),
    }


def _time(at: float) -> str:
    from embedfleet.clock import utc

    return utc(at).isoformat(timespec="seconds")
