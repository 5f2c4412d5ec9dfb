"""The fence of the vector store: what is recorded of a store counts only while it is the system's.

The vectors of a system may move to another store at any moment (`store_moves`). A process that looked before
it wrote may have looked too early, so each unit looks once more, after its own statements on `vectors`. The
switch takes a lock of that table: a unit that was before it is waited for, and one that comes after it sees
what it wrote.
"""

from __future__ import annotations

import json

from sqlalchemy import Connection, bindparam, select

from embedfleet.errors import StoreMoved
from embedfleet.sql.tables import facts
from embedfleet.system_parts import Part, PartKind

_RECORDED = select(facts.c.value).where(facts.c.name == bindparam("name"))
_NAME = f"part:{PartKind.VECTORS.value}"


def require_open(conn: Connection, part_id: str | None) -> None:
    """Undo this unit, which recorded what it wrote to this store, if the vectors are in another store now.

    Call it after the statements that change `vectors`. Raises StoreMoved, also while the store is closed
    because the vectors are about to move. None: a store that the caller gave, and is not compared. Every
    store that a process opens by its settings has an id, once SQL records one.
    """
    part = _current(conn, part_id)
    if part is not None and part.closed:
        raise StoreMoved(f"the vectors are about to move from {part.place}: record them in a moment")


def require_current(conn: Connection, part_id: str | None) -> None:
    """Raise StoreMoved if the vectors are in another store than this one. A closed store is read.

    None: the store has no mark, and is not compared.
    """
    _current(conn, part_id)


def _current(conn: Connection, part_id: str | None) -> Part | None:
    """Return the part that SQL records. Raises StoreMoved if it is another one than this."""
    text = None if part_id is None else conn.execute(_RECORDED, {"name": _NAME}).scalar_one_or_none()
    if text is None:
        return None
    part = Part(**json.loads(text))
    if part.part_id != part_id:
        raise StoreMoved(f"the vectors are {part.place} now: use that store")
    return part
