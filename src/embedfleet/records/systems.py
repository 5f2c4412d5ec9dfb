"""The rows that say which system this database is, and which parts it has outside of SQL."""

from __future__ import annotations

import json
from dataclasses import asdict

from sqlalchemy import Connection, delete, select

from embedfleet.sql.tables import facts, vectors
from embedfleet.sql.upsert import upsert
from embedfleet.system_parts import Part, PartKind, SystemRecord

_SYSTEM_ID = "system_id"


def _part_name(kind: PartKind) -> str:
    return f"part:{kind.value}"


def recorded(conn: Connection) -> SystemRecord | None:
    """Return what this database records of its system; None if no orchestrator ever opened it."""
    names = [_SYSTEM_ID, *(_part_name(kind) for kind in PartKind)]
    held = {
        row.name: row.value
        for row in conn.execute(select(facts.c.name, facts.c.value).where(facts.c.name.in_(names)))
    }
    if _SYSTEM_ID not in held:
        return None
    parts = {
        kind: Part(**json.loads(held[_part_name(kind)])) for kind in PartKind if _part_name(kind) in held
    }
    return SystemRecord(held[_SYSTEM_ID], parts)


def holds_vectors(conn: Connection) -> bool:
    """Return whether SQL records any vector in the vector store."""
    return conn.execute(select(vectors.c.chunk_id).limit(1)).first() is not None


def establish(conn: Connection, system_id: str) -> SystemRecord:
    """Give this database's system the id, unless it has one. Returns what is recorded now."""
    _insert_new(conn, _SYSTEM_ID, system_id)
    system = recorded(conn)
    assert system is not None
    return system


def record_part(conn: Connection, kind: PartKind, part: Part) -> Part:
    """Record the part, unless one is recorded. Returns the part that is recorded now.

    Of two orchestrators that start with different parts at the same time, only the first records its own.
    """
    _insert_new(conn, _part_name(kind), _as_text(part))
    system = recorded(conn)
    assert system is not None
    return system.parts[kind]


def lock_part(conn: Connection, kind: PartKind) -> Part | None:
    """Return the part as it is recorded, and keep other units from changing it until this one ends."""
    query = select(facts.c.value).where(facts.c.name == _part_name(kind)).with_for_update()
    text = conn.execute(query).scalar_one_or_none()
    return None if text is None else Part(**json.loads(text))


def replace_part(conn: Connection, kind: PartKind, part: Part) -> None:
    """Record the part in place of the one that is recorded."""
    _replace(conn, _part_name(kind), _as_text(part))


def replace_system(conn: Connection, system_id: str) -> None:
    """Give this database's system another id. Its parts have to be marked again."""
    _replace(conn, _SYSTEM_ID, system_id)


def forget(conn: Connection) -> None:
    """Forget which system this database is: a copy is another system than its original."""
    names = [_SYSTEM_ID, *(_part_name(kind) for kind in PartKind)]
    conn.execute(delete(facts).where(facts.c.name.in_(names)))


def _as_text(part: Part) -> str:
    return json.dumps(asdict(part))


def _insert_new(conn: Connection, name: str, value: str) -> None:
    insert = upsert(conn.dialect.name, facts).values(name=name, value=value)
    conn.execute(insert.on_conflict_do_nothing())


def _replace(conn: Connection, name: str, value: str) -> None:
    insert = upsert(conn.dialect.name, facts).values(name=name, value=value)
    conn.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
