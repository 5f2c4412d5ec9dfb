"""The moves of the vectors to another store: how far the one under way is, and what the other store holds.

`vectors` says what the system's store holds, `store_copies` says the same of the other one. What differs is
to be copied, or to be deleted there (ADR 31).

`store_copies.writes` is the number of writes of the vector that was copied, or one of these:

- `_UNDER_WAY`: the row was noted and may be in the store, whole or not.
- `_PATCHED`: its metadata were changed since it was noted, so a copy that is under way does not count.
- `_DELETED`: it was deleted from the other store, which may still keep it where it keeps deleted rows.
- `_DELETED_FROM_SYSTEM`: the same, but that other store has become the system's since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, literal, or_, select, text, update

from embedfleet.records import systems
from embedfleet.records.collections import Collection
from embedfleet.sql.paging import chunk_id_pages, key_pages
from embedfleet.sql.rows import RowsStatement
from embedfleet.sql.states import MovePhase, VectorState
from embedfleet.sql.tables import collections, store_copies, store_moves, vectors
from embedfleet.sql.upsert import upsert
from embedfleet.system_parts import Part, PartKind

# Rows of `store_copies` that one unit drops. Other units wait for it.
_ROWS_PER_UNIT = 5_000

_UNDER_WAY = 0
_DELETED = -1
_DELETED_FROM_SYSTEM = -2
_PATCHED = -3


class MoveWentOn(Exception):
    """What a mover took for granted is no longer so: it reads the move again. The unit is undone."""


@dataclass(frozen=True, slots=True)
class StoreMove:
    """A move. `places` says how each store is opened, by the id of its part: JSON without secrets.

    The collections up to the id `read_to` were read back from the other store, and found right.
    """

    move_id: int
    source_part: str
    target_part: str
    places: Mapping[str, str]
    phase: MovePhase
    started_at: float
    changed_at: float
    switched_at: float | None
    ended_at: float | None
    read_to: int = 0
    findings: Mapping[str, Any] = field(default_factory=dict)

    def other_than(self, part_id: str) -> str:
        """Return the part id of the other store, if the system has this one."""
        return self.source_part if part_id == self.target_part else self.target_part


@dataclass(frozen=True, slots=True)
class Standing:
    """What a piece of work of a mover takes for granted: the move, its phase, and the system's store."""

    move_id: int
    phase: MovePhase
    part_id: str


def require(conn: Connection, standing: Standing, *, until_commit: bool = False) -> None:
    """Raise MoveWentOn unless the move still stands so; with `until_commit`, until this unit has ended."""
    query = select(store_moves.c.move_id, store_moves.c.phase).where(store_moves.c.running == 1)
    if until_commit:
        query = query.with_for_update(read=True)
    found = conn.execute(query).one_or_none()
    if (
        found is None
        or (found.move_id, found.phase) != (standing.move_id, standing.phase)
        or _part(conn).part_id != standing.part_id
    ):
        raise MoveWentOn


def running(conn: Connection) -> StoreMove | None:
    """Return the move that is under way; None if there is none."""
    row = conn.execute(select(store_moves).where(store_moves.c.running == 1)).one_or_none()
    return None if row is None else _move(row)


def newest(conn: Connection) -> StoreMove | None:
    """Return the move that began last, though it may have ended; None if there never was one."""
    row = conn.execute(select(store_moves).order_by(store_moves.c.move_id.desc()).limit(1)).one_or_none()
    return None if row is None else _move(row)


def begin(conn: Connection, source: tuple[str, str], target: tuple[str, str], now: float) -> StoreMove | None:
    """Begin a move from one (part id, how it is opened) to another. None: another move is under way."""
    row = {
        "source_part": source[0],
        "source": source[1],
        "target_part": target[0],
        "target": target[1],
        "phase": MovePhase.COPYING,
        "running": 1,
        "started_at": now,
        "changed_at": now,
        "read_to": 0,
        "findings": "{}",
    }
    done = conn.execute(upsert(conn.dialect.name, store_moves).values(**row).on_conflict_do_nothing())
    return running(conn) if done.rowcount else None


def enter(conn: Connection, move: StoreMove, phase: MovePhase, now: float, **found: Any) -> bool:
    """Enter the phase, unless another process has entered one since the move was read. Returns whether.

    `found` is added to the findings. When the move closes the store, no unit records vectors any more; with
    any other phase they do.
    """
    if MovePhase.CLOSING in (phase, move.phase):
        # Before the row of the move is changed: a switch locks in this order too.
        _wait_for_recording(conn)
    values: dict[str, Any] = {"phase": phase, "changed_at": now}
    values["findings"] = json.dumps({**move.findings, **found})
    if phase is MovePhase.COPYING and move.phase is MovePhase.KEEPING:
        values["read_to"] = 0
    if phase is MovePhase.ENDED:
        values |= {"running": None, "ended_at": now}
    same = and_(store_moves.c.move_id == move.move_id, store_moves.c.phase == move.phase)
    if not conn.execute(update(store_moves).where(same).values(**values)).rowcount:
        return False
    _close(conn, closed=phase is MovePhase.CLOSING)
    return True


def record_read(conn: Connection, standing: Standing, collection_id: int, rows: int) -> None:
    """Record that the collections up to this one were read back; `rows` of the last one were right."""
    require(conn, standing, until_commit=True)
    move = running(conn)
    assert move is not None
    findings = {**move.findings, "read_back": move.findings.get("read_back", 0) + rows}
    same = store_moves.c.move_id == move.move_id
    conn.execute(update(store_moves).where(same).values(read_to=collection_id, findings=json.dumps(findings)))


def _close(conn: Connection, *, closed: bool) -> None:
    part = systems.lock_part(conn, PartKind.VECTORS)
    assert part is not None  # a move begins only if the store is recorded
    if part.closed != closed:
        _wait_for_recording(conn)
        systems.replace_part(conn, PartKind.VECTORS, replace(part, closed=closed))


def _part(conn: Connection) -> Part:
    system = systems.recorded(conn)
    assert system is not None
    return system.parts[PartKind.VECTORS]


def _wait_for_recording(conn: Connection) -> None:
    """Wait for the units that have changed `vectors`, and let later ones wait for this one.

    Such a unit reads the part after its change (`store_fence`), so it sees what this one writes. SQLite has
    one writer: no other unit is under way.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text("LOCK TABLE vectors IN SHARE ROW EXCLUSIVE MODE"))


def switch(conn: Connection, move: StoreMove, place: str, now: float) -> bool:
    """Make the other store of a closed move the system's, if it holds what SQL records. Returns whether.

    `place` is that of the other store, for messages. The checksums of the two stores are exchanged.
    """
    _wait_for_recording(conn)
    current = running(conn)
    if current is None or current.move_id != move.move_id or current.phase is not MovePhase.CLOSING:
        return False
    if differs(conn):
        return False
    part = systems.lock_part(conn, PartKind.VECTORS)
    assert part is not None
    exchanged = and_(
        store_copies.c.chunk_id == vectors.c.chunk_id,
        store_copies.c.checksum.is_distinct_from(vectors.c.checksum),
    )
    other = select(store_copies.c.checksum).where(exchanged).scalar_subquery()
    conn.execute(update(vectors).where(select(literal(1)).where(exchanged).exists()).values(checksum=other))
    unequal = store_copies.c.checksum.is_distinct_from(store_copies.c.system_checksum)
    conn.execute(
        update(store_copies)
        .where(unequal)
        .values(checksum=store_copies.c.system_checksum, system_checksum=store_copies.c.checksum)
    )
    was_deleted = store_copies.c.writes == _DELETED
    conn.execute(update(store_copies).where(was_deleted).values(writes=_DELETED_FROM_SYSTEM))
    # The previous store still has rows that wait for their deletion. They have to leave it too.
    waiting = select(
        vectors.c.chunk_id,
        vectors.c.document_id,
        vectors.c.collection_id,
        collections.c.tenant,
        literal(_UNDER_WAY),
        vectors.c.described_by,
    ).join(collections, collections.c.collection_id == vectors.c.collection_id)
    waiting = waiting.where(vectors.c.state == VectorState.DELETING)
    columns = ["chunk_id", "document_id", "collection_id", "tenant", "writes", "described_by"]
    insert = upsert(conn.dialect.name, store_copies).from_select(columns, waiting)
    conn.execute(insert.on_conflict_do_nothing())
    new = move.other_than(part.part_id)
    systems.replace_part(conn, PartKind.VECTORS, Part(new, place, now))
    values = {
        "phase": MovePhase.KEEPING,
        "changed_at": now,
        "switched_at": now if new == move.target_part else None,
    }
    conn.execute(update(store_moves).where(store_moves.c.move_id == move.move_id).values(**values))
    return True


# --- what differs ---


@dataclass(frozen=True, slots=True)
class ToCopy:
    """A row of the system's store that the other one does not hold as it is now."""

    chunk_id: str
    document_id: str
    collection: Collection
    writes: int
    described_by: int
    checksum: bytes | None


@dataclass(frozen=True, slots=True)
class Copied:
    """A row that was copied and read back. The checksums are those of the two stores."""

    row: ToCopy
    checksum: bytes
    system_checksum: bytes


_COPY = and_(store_copies.c.chunk_id == vectors.c.chunk_id)
_DIFFERS = or_(
    store_copies.c.chunk_id.is_(None),
    store_copies.c.writes != vectors.c.writes,
    store_copies.c.described_by != vectors.c.described_by,
)


def to_copy(conn: Connection, after: str, limit: int) -> list[ToCopy]:
    """Return up to `limit` rows to copy, in the order of chunk ids, after this one ("" for the first)."""
    query = (
        select(vectors, collections)
        .join(collections, collections.c.collection_id == vectors.c.collection_id)
        .outerjoin(store_copies, _COPY)
        .where(vectors.c.state == VectorState.STORED, vectors.c.chunk_id > bytes.fromhex(after), _DIFFERS)
        .order_by(vectors.c.chunk_id)
        .limit(limit)
    )
    return [
        ToCopy(
            row.chunk_id.hex(),
            row.document_id,
            Collection.of_row(row),
            row.writes,
            row.described_by,
            row.checksum,
        )
        for row in conn.execute(query)
    ]


_WITHOUT_VECTOR = (
    select(store_copies.c.chunk_id, collections)
    .join(collections, collections.c.collection_id == store_copies.c.collection_id)
    .outerjoin(vectors, _COPY)
    .where(vectors.c.chunk_id.is_(None))
)
_WAS_DELETED = store_copies.c.writes.in_([_DELETED, _DELETED_FROM_SYSTEM])


def surplus(conn: Connection, limit: int) -> dict[Collection, list[str]]:
    """Return up to `limit` rows to delete from the other store: SQL records their vectors no more."""
    found: dict[Collection, list[str]] = {}
    for row in conn.execute(_WITHOUT_VECTOR.where(~_WAS_DELETED).limit(limit)):
        found.setdefault(Collection.of_row(row), []).append(row.chunk_id.hex())
    return found


def to_forget(conn: Connection, limit: int) -> dict[Collection, list[str]]:
    """Return up to `limit` rows that were deleted from a store, which may still keep them somewhere."""
    found: dict[Collection, list[str]] = {}
    query = (
        select(store_copies.c.chunk_id, collections)
        .join(collections, collections.c.collection_id == store_copies.c.collection_id)
        .where(_WAS_DELETED)
        .order_by(store_copies.c.collection_id)
        .limit(limit)
    )
    for row in conn.execute(query):
        found.setdefault(Collection.of_row(row), []).append(row.chunk_id.hex())
    return found


def deleted_from_system(conn: Connection, ids: Sequence[int]) -> set[int]:
    """Return those of these collections from which the system's store had rows deleted before it was that."""
    mine = (
        select(store_copies.c.collection_id)
        .where(store_copies.c.collection_id.in_(ids), store_copies.c.writes == _DELETED_FROM_SYSTEM)
        .distinct()
    )
    return set(conn.execute(mine).scalars())


def differs(conn: Connection) -> bool:
    """Whether anything is to be copied to the other store or to be deleted there."""
    return bool(to_copy(conn, "", 1)) or bool(surplus(conn, 1))


def note(conn: Connection, rows: Iterable[ToCopy]) -> set[str]:
    """Note that the other store may hold these rows. Call it before they are read and written there.

    Returns the ids of those that are stored as they were read, which are noted. So what is deleted is either
    not noted, or its receipt waits for this note.
    """
    given = {row.chunk_id: row for row in rows}
    values: list[dict[str, Any]] = []
    for ids in chunk_id_pages(sorted(given)):
        query = select(vectors.c.chunk_id, vectors.c.writes, vectors.c.described_by).where(
            vectors.c.chunk_id.in_(ids), vectors.c.state == VectorState.STORED
        )
        # A deletion of the row waits until this note is committed.
        for found in conn.execute(query.order_by(vectors.c.chunk_id).with_for_update(read=True)):
            row = given[found.chunk_id.hex()]
            if (found.writes, found.described_by) == (row.writes, row.described_by):
                values.append(_noted(row))
    if values:
        statement = upsert(conn.dialect.name, store_copies)
        again = statement.on_conflict_do_update(index_elements=["chunk_id"], set_={"writes": _UNDER_WAY})
        conn.execute(again, values)
    return {value["chunk_id"].hex() for value in values}


def _noted(row: ToCopy) -> dict[str, Any]:
    return {
        "chunk_id": bytes.fromhex(row.chunk_id),
        "document_id": row.document_id,
        "collection_id": row.collection.collection_id,
        "tenant": row.collection.tenant,
        "writes": _UNDER_WAY,
        "described_by": row.described_by,
        "checksum": None,
        "system_checksum": None,
    }


def copy_again(conn: Connection, document_ids: Sequence[str]) -> None:
    """Have the rows of these documents copied again, as their metadata have changed."""
    for ids in key_pages(document_ids):
        mine = store_copies.c.document_id.in_(ids) & (store_copies.c.writes >= _UNDER_WAY)
        conn.execute(update(store_copies).where(mine).values(writes=_PATCHED))


def record_copied(conn: Connection, rows: Sequence[Copied]) -> None:
    """Record rows that were copied.

    A row whose metadata were changed since it was noted is copied again.
    """
    given = [
        (
            bytes.fromhex(one.row.chunk_id),
            one.row.writes,
            one.row.described_by,
            one.checksum,
            one.system_checksum,
        )
        for one in rows
    ]
    recorded = {bytes(found.chunk_id) for found in _RECORD.run(conn, given)}
    forget_copies(conn, [one.row.chunk_id for one in rows if bytes.fromhex(one.row.chunk_id) not in recorded])


def forget_copies(conn: Connection, chunk_ids: Sequence[str]) -> None:
    """Have these rows copied again."""
    for ids in chunk_id_pages(chunk_ids):
        conn.execute(update(store_copies).where(store_copies.c.chunk_id.in_(ids)).values(writes=_UNDER_WAY))


def record_deleted(conn: Connection, chunk_ids: Sequence[str]) -> None:
    """Record that these rows were deleted from the other store."""
    for ids in chunk_id_pages(chunk_ids):
        conn.execute(update(store_copies).where(store_copies.c.chunk_id.in_(ids)).values(writes=_DELETED))


def record_forgotten(conn: Connection, chunk_ids: Sequence[str]) -> None:
    """Record that nothing of these deleted rows is left in the other store."""
    for ids in chunk_id_pages(chunk_ids):
        conn.execute(delete(store_copies).where(store_copies.c.chunk_id.in_(ids), _WAS_DELETED))


def copies_of(conn: Connection, chunk_ids: Sequence[str]) -> dict[str, bytes | None]:
    """Return the checksums in the other store of those of these ids that it may hold.

    None: the row is to be copied again, or to be deleted.
    """
    found: dict[str, bytes | None] = {}
    for ids in chunk_id_pages(chunk_ids):
        for row in conn.execute(select(store_copies).where(store_copies.c.chunk_id.in_(ids))):
            found[row.chunk_id.hex()] = row.checksum if row.writes > 0 else None
    return found


def copied_ids(conn: Connection, collection_id: int, after: str, limit: int) -> list[str]:
    """Return up to `limit` ids that the other store holds in this collection, in order, after this one."""
    query = (
        select(store_copies.c.chunk_id)
        .where(
            store_copies.c.collection_id == collection_id,
            store_copies.c.chunk_id > bytes.fromhex(after),
            store_copies.c.writes > 0,
        )
        .order_by(store_copies.c.chunk_id)
        .limit(limit)
    )
    return [value.hex() for value in conn.execute(query).scalars()]


def drop_copies(conn: Connection) -> bool:
    """Drop some of the rows that say what the other store holds. Returns whether there are more."""
    some = select(store_copies.c.chunk_id).limit(_ROWS_PER_UNIT)
    return conn.execute(delete(store_copies).where(store_copies.c.chunk_id.in_(some))).rowcount > 0


def left(conn: Connection) -> list[tuple[str, float]]:
    """Return the stores that moves have left with rows in them: (how they are opened, when the move ended).

    The one that the system has now is not among them.
    """
    system = systems.recorded(conn)
    part = None if system is None else system.parts.get(PartKind.VECTORS)
    move = newest(conn)
    present = None if move is None or part is None else move.places.get(part.part_id)
    moves = [_move(row) for row in conn.execute(select(store_moves).order_by(store_moves.c.move_id))]
    return [
        (one.findings["left_in"], one.ended_at)
        for one in moves
        if one.ended_at is not None and "left_in" in one.findings and one.findings["left_in"] != present
    ]


def any_copies(conn: Connection) -> bool:
    """Whether the other store of a move may hold any row."""
    return conn.execute(select(literal(1)).select_from(store_copies).limit(1)).first() is not None


def count_copies(conn: Connection) -> int:
    """Count the rows that the other store of a move may hold. This reads the whole table."""
    return int(conn.execute(select(func.count()).select_from(store_copies)).scalar_one())


def any_copies_of_tenant(conn: Connection, tenant: str) -> bool:
    """Whether the other store of a move may hold rows of the tenant."""
    return (
        conn.execute(select(literal(1)).where(store_copies.c.tenant == tenant).limit(1)).first() is not None
    )


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """`rows` are in the system's store by SQL; of these `copied` are in the other one as they are now."""

    rows: int
    copied: int


def progress(conn: Connection) -> MoveProgress:
    """Count the rows of both stores. This reads both tables."""
    stored = vectors.c.state == VectorState.STORED
    rows = conn.execute(select(func.count()).select_from(vectors).where(stored)).scalar_one()
    same = select(func.count()).select_from(vectors.outerjoin(store_copies, _COPY)).where(stored, ~_DIFFERS)
    return MoveProgress(int(rows), int(conn.execute(same).scalar_one()))


def forget(conn: Connection) -> None:
    """Forget every move: a copy of the database is of another system, which has no other store."""
    conn.execute(delete(store_copies))
    conn.execute(delete(store_moves))


def _move(row: Row[Any]) -> StoreMove:
    return StoreMove(
        row.move_id,
        row.source_part,
        row.target_part,
        {row.source_part: row.source, row.target_part: row.target},
        MovePhase(row.phase),
        row.started_at,
        row.changed_at,
        row.switched_at,
        row.ended_at,
        row.read_to,
        json.loads(row.findings),
    )


_RECORD = RowsStatement(
    "WITH given(chunk_id, writes, described_by, checksum, system_checksum) AS (VALUES {rows}) "
    "UPDATE store_copies SET writes = given.writes, described_by = given.described_by, "
    "checksum = given.checksum, system_checksum = given.system_checksum FROM given "
    "WHERE store_copies.chunk_id = given.chunk_id AND store_copies.writes = 0 "
    "RETURNING store_copies.chunk_id"
)
