"""Whether a store is the other one of a move. Nothing is written to a store, or deleted there, without this.

A store carries the mark of its system and the id of its part. The other store of a move carries the id that
the move has for it. It gets that mark before the first row, and only if it has no mark, or an earlier one of
this system whose store is not in use any more.
"""

from __future__ import annotations

from functools import partial

from embedfleet.errors import ConfigError, Remedy, Transient
from embedfleet.records import collections, systems
from embedfleet.records.scope import EveryTenant
from embedfleet.sql.database import Database
from embedfleet.system_parts import Mark, PartKind, SystemRecord
from embedfleet.vectors.port import VectorStore


async def claim_target(database: Database, other: VectorStore, other_id: str) -> None:
    """Mark the other store as that of the move, if it may be it.

    Raises ConfigError as `require_free` does; then nothing has changed there.
    """
    there = await require_free(database, other, other_id)
    system = await _system(database)
    mark = Mark(system.system_id, other_id, database.location).to_text()
    if there != mark:
        held = await other.claim_mark(mark, replacing=there)
        if held != mark:
            raise Transient("the store to which the vectors move was marked just now: look again")


async def require_free(database: Database, other: VectorStore, other_id: str | None = None) -> str | None:
    """Return the mark of a store to which the vectors are to move. None: it has none.

    `other_id` is the id that the move has for it, if there is a move. Raises ConfigError if it is the store
    that the system has, by another name; if it belongs to another system; and if it has no mark but rows.
    """
    system = await _system(database)
    text = await other.mark()
    if text is None:
        await _require_empty(database, other)
        return None
    mark = Mark.from_text(text)
    if mark.system_id != system.system_id:
        raise ConfigError(
            f"the target store belongs to another system ({mark.system_id}, with the database "
            f"{mark.database}): nothing was written there; name a store that has no rows of others",
            remedy=Remedy.END_MOVE,
        )
    if mark.part_id != other_id and mark.part_id == system.parts[PartKind.VECTORS].part_id:
        raise ConfigError(
            "the target store is the one that the system has, by another name: nothing was written there; "
            "name another store",
            remedy=Remedy.END_MOVE,
        )
    return text


async def _require_empty(database: Database, other: VectorStore) -> None:
    """Raise ConfigError if a store without a mark has rows where those of this system would go."""
    for collection in await database.read(partial(collections.within, scope=EveryTenant())):
        rows = await other.count(collection)
        if rows:
            raise ConfigError(
                f"the target store has no mark and {rows} rows in its collection "
                f"{other.name_in_store(collection)}: they may be those of others, so nothing was written "
                "there; name an empty store",
                remedy=Remedy.END_MOVE,
            )


async def is_other_store(database: Database, other: VectorStore, other_id: str) -> bool:
    """Whether the store carries the mark that the move gave it."""
    system = await _system(database)
    text = await other.mark()
    if text is None:
        return False
    mark = Mark.from_text(text)
    return (mark.system_id, mark.part_id) == (system.system_id, other_id)


async def require_other_store(database: Database, other: VectorStore, other_id: str) -> None:
    """Raise ConfigError unless the store carries the mark that the move gave it."""
    if not await is_other_store(database, other, other_id):
        raise ConfigError(
            "the other store of the move does not carry its mark: it was emptied, replaced, or is another "
            "server. Bring the right one back, or end the move",
            remedy=Remedy.END_MOVE,
        )


async def _system(database: Database) -> SystemRecord:
    system = await database.read(systems.recorded)
    assert system is not None  # a move begins only in a system that has a store
    return system
