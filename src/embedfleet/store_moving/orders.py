"""What an operator orders of a move: to begin it, to give it up, to go back, to end it.

An order is a row in SQL; the leader carries it out (`store_moving.mover`). So an order can be given beside
running orchestrators, and by a process that has no vector store.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection

from embedfleet.deployment import deployment_of
from embedfleet.errors import ConfigError, InvalidRequest, Transient
from embedfleet.joining import vectors_place
from embedfleet.records import store_moves, systems
from embedfleet.records.store_moves import MoveProgress, StoreMove
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.states import MovePhase
from embedfleet.store_moving.places import (
    carries_mark,
    current_part,
    is_same_place,
    place_of,
    settings_at,
    settings_now,
    settings_of_system,
)
from embedfleet.store_moving.target import require_free
from embedfleet.system_parts import PartKind
from embedfleet.vectors.registry import store_kind


@dataclass(frozen=True, slots=True)
class MoveStatus:
    """The newest move, the part id of the system's store, and how far the copying is (None: it has ended)."""

    move: StoreMove
    part_id: str
    progress: MoveProgress | None

    @property
    def switched(self) -> bool:
        """Whether the system has the store that the move is to."""
        return self.part_id == self.move.target_part


def status(conn: Connection) -> MoveStatus | None:
    """Return how the newest move stands; None if there never was one."""
    move = store_moves.newest(conn)
    if move is None:
        return None
    counted = None if move.phase is MovePhase.ENDED else store_moves.progress(conn)
    return MoveStatus(move, _part_id(conn), counted)


def target_of(settings: Settings, kind: str, url: str | None, path: str | None) -> Settings:
    """Return these settings with the vector store of such a kind and place.

    A path becomes absolute: each process has a working directory of its own. Raises InvalidRequest for a URL
    with a password.
    """
    if url is not None and "@" in url and ":" in url.rsplit("@", 1)[0].split("://", 1)[-1]:
        raise InvalidRequest(
            "the url of the target store has a password, which the database would show: leave it out, and "
            "give it to the processes (`vector_store.other_token`, or PGPASSWORD)"
        )
    if path is not None and "://" not in path:
        path = os.path.normpath(Path(path).expanduser().absolute())
    return settings_at(settings, json.dumps({"kind": kind, "url": url, "path": path}))


async def require_possible(database: Database, settings: Settings, target: Settings) -> None:
    """Raise ConfigError or InvalidRequest if the vectors cannot move from their store to that of `target`.

    Nothing is opened.
    """
    deployment_of(target)
    if await database.read(store_moves.running) is not None:
        return  # the same order again, or one that `begin` refuses
    if is_same_place(await settings_of_system(settings, database), target):
        where = store_kind(target.vector_store.kind).place(target)
        raise InvalidRequest(f"the vectors are in {where} already: name another store")


async def examine(database: Database, settings: Settings, target: Settings) -> None:
    """Open the target store and read its mark, before a move is ordered. Nothing is written.

    Raises ConfigError or VectorStoreUnavailable if it cannot be opened, and ConfigError as `require_free`
    does. A target to which the vectors move already is not opened: the leader has it open.
    """
    move = await database.read(store_moves.running)
    if move is not None:
        return
    await _require_source(database, settings)
    other = await store_kind(target.vector_store.kind).open_store(target)
    try:
        await require_free(database, other)
    finally:
        await other.close()


async def _require_source(database: Database, settings: Settings) -> None:
    """Raise ConfigError unless these settings name the system's store: all processes are sent there."""
    part = await database.read(current_part)
    here = await settings_of_system(settings, database)
    if part is None or part.place == vectors_place(here):
        return
    store = await store_kind(here.vector_store.kind).open_store(here)
    try:
        is_here = await carries_mark(store, part.part_id)
    finally:
        await store.close()
    if not is_here:
        raise ConfigError(
            f"these settings have the vector store {vectors_place(here)}, but the system has it "
            f"{part.place}: give the order with the settings of its orchestrators"
        )


def begin(conn: Connection, settings: Settings, target: Settings, now: float) -> StoreMove:
    """Begin the move from the system's store, which these settings name, to that of `target`.

    The same order given again changes nothing. Raises InvalidRequest if another move is under way.
    """
    source = (_part_id(conn), place_of(settings_now(conn, settings)))
    begun = store_moves.begin(conn, source, (uuid4().hex, place_of(target)), now)
    if begun is None:
        there = store_moves.running(conn)
        assert there is not None
        if not is_same_place(target, settings_at(settings, there.places[there.target_part])):
            raise InvalidRequest("the vectors move to another store already: retire or abort that move first")
        begun = there
    return begun


def go_back(conn: Connection, now: float) -> StoreMove:
    """Have the vectors move back to the previous store, which was kept in step."""
    move = require_running(conn)
    if move.phase is not MovePhase.KEEPING or _part_id(conn) != move.target_part:
        raise InvalidRequest(f"the move is {move.phase}: only after the switch is there a way back")
    return _entered(conn, move, MovePhase.COPYING, now, read_back=0)


def abort(conn: Connection, now: float, *, leave: bool = False) -> StoreMove:
    """Call off what is under way. Returns the move as it is then.

    Before the switch, and after the way back, the target store is emptied. On the way back, the vectors stay
    in the target store, and the previous one is kept in step again. With `leave`, the target store is not
    even opened, and what it holds stays there.
    """
    move = require_running(conn)
    if _part_id(conn) == move.target_part:
        if move.phase in (MovePhase.COPYING, MovePhase.VERIFYING, MovePhase.CLOSING):
            return _entered(conn, move, MovePhase.KEEPING, now)
        raise InvalidRequest(
            "the vectors are in the new store already: go back first, or retire the previous store"
        )
    return _dropping(conn, move, now, leave=leave)


def retire(conn: Connection, settings: Settings, now: float, *, leave: bool = False) -> StoreMove:
    """End the move after its switch: the previous store is emptied. There is no way back from here.

    With `leave`, that store is not even opened, and what it holds stays there. Raises InvalidRequest before
    the switch, and if these settings do not name the new store.
    """
    move = require_running(conn)
    if _part_id(conn) != move.target_part or move.phase not in (MovePhase.KEEPING, MovePhase.DROPPING):
        raise InvalidRequest(f"the move is {move.phase}: the previous store is retired after the switch")
    if not is_same_place(settings, settings_at(settings, move.places[move.target_part])):
        raise InvalidRequest(
            "the settings still name the previous store: set `vector_store` to "
            f"{move.places[move.target_part]} on every host, then retire it"
        )
    return _dropping(conn, move, now, leave=leave)


def _dropping(conn: Connection, move: StoreMove, now: float, *, leave: bool) -> StoreMove:
    found = {"leave": True} if leave else {}
    return _entered(conn, move, MovePhase.DROPPING, now, **found)


def _entered(conn: Connection, move: StoreMove, phase: MovePhase, now: float, **found: object) -> StoreMove:
    if not store_moves.enter(conn, move, phase, now, **found):
        raise Transient("the move went on to another phase just now: give the order again")
    return require_running(conn)


def require_running(conn: Connection) -> StoreMove:
    """Return the move that is under way. Raises InvalidRequest if there is none."""
    move = store_moves.running(conn)
    if move is None:
        raise InvalidRequest("no move of the vectors is under way: begin one")
    return move


def _part_id(conn: Connection) -> str:
    system = systems.recorded(conn)
    part = None if system is None else system.parts.get(PartKind.VECTORS)
    if part is None:
        raise InvalidRequest("the system has no vector store yet: name the other one in the settings")
    return part.part_id
