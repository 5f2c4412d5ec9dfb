"""Which vector store a process opens: the one that SQL names, when it is not that of the settings.

A move says in SQL how its two stores are opened. So a process with the settings of before a switch opens the
right one too. Secrets stay in the settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

from loguru import logger
from sqlalchemy import Connection

from embedfleet.errors import ConfigError, Remedy
from embedfleet.joining import vectors_place
from embedfleet.records import store_moves, systems
from embedfleet.records.store_moves import StoreMove
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.states import MovePhase
from embedfleet.system_parts import Mark, Part, PartKind
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.registry import store_kind
from embedfleet.vectors.switching import SwitchingStore

_FIELDS = ("kind", "url", "path")


def place_of(settings: Settings) -> str:
    """Return how the vector store of these settings is opened, as JSON without secrets."""
    return json.dumps({name: getattr(settings.vector_store, name) for name in _FIELDS})


def settings_at(settings: Settings, place: str) -> Settings:
    """Return these settings with the vector store that is opened so."""
    if place_of(settings) == place:
        return settings
    own = settings.vector_store
    changed: Mapping[str, object] = json.loads(place)
    if own.other_token is not None:
        changed = {**changed, "token": own.other_token}
    return settings.model_copy(update={"vector_store": own.model_copy(update=changed)})


def is_same_place(one: Settings, other: Settings) -> bool:
    """Whether both name the same vector store, as far as the settings tell: a store may have more names."""
    return vectors_place(one) == vectors_place(other)


async def settings_of_system(settings: Settings, database: Database) -> Settings:
    """Return these settings with the vector store that the system has now.

    That is the one of the settings, unless the vectors move or have moved from there.
    """
    return await database.read(partial(settings_now, settings=settings))


def settings_now(conn: Connection, settings: Settings) -> Settings:
    """Do so within a unit."""
    move = store_moves.newest(conn)
    part = current_part(conn)
    if move is None or part is None or part.part_id not in move.places:
        return settings
    there = settings_at(settings, move.places[part.part_id])
    if move.phase is not MovePhase.ENDED:
        return there
    previous = settings_at(settings, move.places[move.other_than(part.part_id)])
    # Once a move has ended, the settings say where the store is, by any of its names. Only a process that was
    # started with those of before, or on a host that was forgotten, is sent to the right one.
    if is_same_place(settings, previous) and not is_same_place(settings, there):
        logger.warning(
            "the settings name a vector store that the system has no more, by its last move; this process "
            "uses {}: set `vector_store` to it",
            vectors_place(there),
        )
        return there
    return settings


def current_part(conn: Connection) -> Part | None:
    """Return the system's vector store as SQL records it; None if none is recorded yet."""
    system = systems.recorded(conn)
    return None if system is None else system.parts.get(PartKind.VECTORS)


def following(
    settings: Settings,
    database: Database,
    store: VectorStore,
    part_id: str | None,
    *,
    place: str,
    marked: bool = True,
) -> SwitchingStore:
    """Return this open store, which is at `place`, as one that follows the moves of the system's vectors.

    `marked` is as in `SwitchingStore`.
    """
    # A later move may go back to a place that is still open here, under another part id. An embedded store
    # cannot be opened twice.
    opened = {place: store}

    async def opening(wanted: str) -> VectorStore:
        move = await database.read(store_moves.newest)
        there = _settings_of_part(settings, move, wanted, database.location)
        where = vectors_place(there)
        if where not in opened:
            opened[where] = await store_kind(there.vector_store.kind).open_store(there)
        return opened[where]

    async def current() -> str | None:
        part = await database.read(current_part)
        return None if part is None else part.part_id

    return SwitchingStore(part_id, store, current=current, opening=opening, check=require_mark, marked=marked)


async def carries_mark(store: VectorStore, part_id: str) -> bool:
    """Whether the store carries the mark of this part."""
    text = await store.mark()
    return text is not None and Mark.from_text(text).part_id == part_id


async def require_mark(store: VectorStore, part_id: str) -> None:
    """Raise ConfigError unless the store carries the mark of this part."""
    if not await carries_mark(store, part_id):
        raise ConfigError(
            "the vector store of these settings does not carry the mark of the system's store: it was "
            "emptied, replaced, or is another one. Set `vector_store` as on the system's other hosts",
            remedy=Remedy.SHOW_SYSTEM,
        )


def _settings_of_part(settings: Settings, move: StoreMove | None, part_id: str, database: str) -> Settings:
    if move is None or part_id not in move.places:
        raise ConfigError(
            f"the vectors of the system of {database} are in another store than these settings name: set "
            "`vector_store` as on its other hosts, and start this process again"
        )
    return settings_at(settings, move.places[part_id])
