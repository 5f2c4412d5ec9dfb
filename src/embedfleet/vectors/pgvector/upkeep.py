"""What makes searches of large collections quick, and what removes the bytes of deleted rows.

Rows are written into no index, as that takes more than twenty times as long. Later, many rows at once go into
an HNSW index of their own, a *segment*: those of a range of `seq`. A search asks each segment and
compares the query with the rows that are in none. New segments swallow older ones that are not larger, so a
collection has few of them, and each row is indexed again only as often as its segment doubles.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.vectors.pgvector import rows as stored
from embedfleet.vectors.pgvector.schema import (
    SCHEMA,
    Entry,
    Extension,
    Run,
    find,
    identity_of,
    lock_alone,
    own_tables,
)
from embedfleet.vectors.port import CollectionKey

if TYPE_CHECKING:
    from psycopg import Connection

MOST_DIMENSIONS = 4_000
"""The most that an index takes: it has two bytes a number (halfvec). Larger vectors are compared."""

# A segment that would be larger is not made: it takes a minute or two on one core.
_MOST_SEGMENT_ROWS = 250_000
# The graph of an index is built in memory, or else many times slower. A row takes its vector of two bytes a
# number and its links; this is on the safe side.
_GRAPH_BYTES_PER_ROW = 500
_MOST_BUILD_BYTES = 2**30
_LOOK_AGAIN_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one index: those with `first_seq` <= seq < `past_seq`. It had `rows` when it was built."""

    first_seq: int
    past_seq: int
    rows: int


def segments_of(run: Run, entry: Entry) -> list[Segment]:
    """Return the segments of a collection, the oldest rows first."""
    found = run(
        f"SELECT first_seq, past_seq, rows FROM {SCHEMA}.segments WHERE collection = %s ORDER BY first_seq",
        (entry.number,),
    )
    return [Segment(*row) for row in found]


def indexed_expression(extension: Extension, vector: str, dim: int) -> str:
    """Return what an index has of a vector: at length 1, as a number over 65,504 is no halfvec."""
    return f"({extension.schema}.l2_normalize({vector})::{extension.schema}.halfvec({dim}))"


def drop(run: Run, collection: CollectionKey) -> None:
    """Remove the collection with all its rows."""
    lock_alone(run, identity_of(collection))
    entry = find(run, collection)
    if entry is None:
        return
    for table in (entry.vectors, entry.texts):
        if entry.own_tables:
            run(f"DROP TABLE {table}", ())
        else:
            run(f"DELETE FROM {table} WHERE collection = %s", (entry.number,))
    run(f"DELETE FROM {SCHEMA}.segments WHERE collection = %s", (entry.number,))
    run(f"DELETE FROM {SCHEMA}.collections WHERE number = %s", (entry.number,))


def unindexed_rows(run: Run) -> int:
    """Return how many rows wait for tables of their own, or for an index."""
    [(shared,)] = run(
        # One after the other by the primary key: the tables of all are never read as a whole.
        "SELECT coalesce(sum("
        f"(SELECT count(*) FROM {SCHEMA}.vectors WHERE collection = c.number)), 0)::bigint "
        f"FROM {SCHEMA}.collections AS c WHERE crowded AND NOT own_tables",
        (),
    )
    return int(shared) + sum(rows_to_index(run).values())


def rows_to_index(run: Run) -> dict[int, int]:
    """Return how many rows of each collection with tables of its own wait for an index, by its number.

    Fewer than `CROWDED_ROWS` do not wait: to compare them is as quick as an index. It is counted by the
    numbers that were given to rows, so rows that were deleted or written again since count too.
    """
    found = run(
        "SELECT c.number, "
        f"coalesce(pg_sequence_last_value(to_regclass(format('{SCHEMA}.vectors_%%s_numbers', c.number))), 0) "
        f"- coalesce((SELECT max(past_seq) - 1 FROM {SCHEMA}.segments WHERE collection = c.number), 0) "
        f"FROM {SCHEMA}.collections AS c WHERE own_tables AND dim <= %s",
        (MOST_DIMENSIONS,),
    )
    return {number: rows for number, rows in found if rows >= stored.CROWDED_ROWS}


def crowded(run: Run) -> Sequence[tuple[int, bytes]]:
    """Return the number and the identity of the collections that wait for tables of their own."""
    return run(f"SELECT number, identity FROM {SCHEMA}.collections WHERE crowded AND NOT own_tables", ())


def give_own_tables(run: Run, extension: Extension, number: int, identity: bytes) -> None:
    """Move the rows of a collection into tables of its own, in one transaction.

    Its writers wait until then: for about a second, as it has some more than `CROWDED_ROWS` when its growth
    is noticed. If the store was not tended since, it has more, at most as many as the debt may be.
    """
    # Writers wait behind this one too, so it gives up if a transaction of the collection stays open.
    run("SELECT set_config('lock_timeout', %s, true)", (f"{_LONGEST_WAIT_SECONDS}s",))
    lock_alone(run, identity)
    found = run(
        f"SELECT dim FROM {SCHEMA}.collections WHERE number = %s AND NOT own_tables FOR UPDATE", (number,)
    )
    if not found:
        return  # dropped, or moved by another process
    before, after = Entry(number, found[0][0], own_tables=False), Entry(number, found[0][0], own_tables=True)
    for statement in own_tables(after, extension):
        run(statement, ())
    for old, new, columns in (
        (before.vectors, after.vectors, "collection, id, vector"),
        (before.texts, after.texts, "collection, id, metadata, document"),
    ):
        run(
            f"WITH moved AS (DELETE FROM {old} WHERE collection = %s RETURNING {columns}) "
            f"INSERT INTO {new} ({columns}) SELECT {columns} FROM moved",
            (number,),
        )
    run(f"CREATE INDEX ON {after.vectors} (seq)", ())
    run(f"UPDATE {SCHEMA}.collections SET own_tables = true WHERE number = %s", (number,))


@dataclass(frozen=True, slots=True)
class Building:
    """An index that is to be built: the new segment, and those that it takes the place of."""

    entry: Entry
    segment: Segment
    swallowed: Sequence[Segment]

    def name(self, segment: Segment) -> str:
        return f"vectors_{self.entry.number}_{segment.first_seq}_{segment.past_seq}"


def next_building(run: Run, number: int) -> Building | None:
    """Plan the next index of a collection; None if it is gone or needs none."""
    found = run(f"SELECT dim FROM {SCHEMA}.collections WHERE number = %s AND own_tables", (number,))
    if not found:
        return None
    entry = Entry(number, found[0][0], own_tables=True)
    segments = segments_of(run, entry)
    first = segments[-1].past_seq if segments else 0
    tail = run(
        f"SELECT count(*), coalesce(max(seq) + 1, %s) FROM (SELECT seq FROM {entry.vectors} WHERE seq >= %s "
        "ORDER BY seq LIMIT %s) AS tail",
        (first, first, _MOST_SEGMENT_ROWS),
    )
    rows, past = tail[0]
    if rows < _MOST_SEGMENT_ROWS:
        # The range ends where numbers were given out, also those of rows that are gone again.
        [(past,)] = run(f"SELECT last_value + 1 FROM {SCHEMA}.vectors_{number}_numbers", ())
    return planned(entry, segments, Segment(first, past, rows))


def planned(entry: Entry, segments: Sequence[Segment], tail: Segment) -> Building:
    """Let the new segment swallow each newest one that is not larger than what it has so far."""
    new = tail
    kept = list(segments)
    while kept and kept[-1].rows <= new.rows and kept[-1].rows + new.rows <= _MOST_SEGMENT_ROWS:
        last = kept.pop()
        new = Segment(last.first_seq, new.past_seq, last.rows + new.rows)
    return Building(entry, new, segments[len(kept) :])


def build(connection: Connection[Any], extension: Extension, building: Building) -> None:
    """Build the index, while others read and write. `connection` commits each statement by itself.

    After a failure nothing refers to what was built of it; `drop_leftovers` removes that.
    """
    entry, segment = building.entry, building.segment
    memory = segment.rows * (4 * entry.dim + _GRAPH_BYTES_PER_ROW)
    connection.execute(
        "SELECT set_config('maintenance_work_mem', greatest(%s, pg_size_bytes("
        "current_setting('maintenance_work_mem')) / 1024)::text || 'kB', false)",
        [min(memory, _MOST_BUILD_BYTES) // 1024],
    )
    connection.execute(
        f"CREATE INDEX CONCURRENTLY {building.name(segment)} ON {entry.vectors} USING hnsw "
        f"({indexed_expression(extension, 'vector', entry.dim)} {extension.schema}.halfvec_cosine_ops) "
        f"WHERE seq >= {segment.first_seq} AND seq < {segment.past_seq}".encode()
    )
    with connection.transaction():
        connection.execute(
            f"DELETE FROM {SCHEMA}.segments WHERE collection = %s AND first_seq >= %s".encode(),
            [entry.number, segment.first_seq],
        )
        connection.execute(
            f"INSERT INTO {SCHEMA}.segments SELECT number, %s, %s, %s FROM {SCHEMA}.collections "
            "WHERE number = %s".encode(),
            [segment.first_seq, segment.past_seq, segment.rows, entry.number],
        )


def drop_leftovers(connection: Connection[Any], number: int) -> None:
    """Remove the indexes of a collection that no segment names: swallowed ones, and what a failure left."""
    found = connection.execute(
        "SELECT i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
        "JOIN pg_am a ON a.oid = i.relam AND a.amname = 'hnsw' "
        "WHERE x.indrelid = to_regclass(%s) AND NOT EXISTS ("
        f"SELECT FROM {SCHEMA}.segments s WHERE s.collection = %s AND x.indisvalid "
        "AND i.relname = format('vectors_%%s_%%s_%%s', s.collection, s.first_seq, s.past_seq))".encode(),
        [f"{SCHEMA}.vectors_{number}", number],
    ).fetchall()
    for (name,) in found:
        connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {SCHEMA}.{name}".encode())


def vacuum(connection: Connection[Any], tables: Sequence[str], *, seconds: float) -> None:
    """Remove the bytes of deleted rows from the tables. `connection` commits each statement by itself.

    The server keeps a deleted row for transactions that are older than its deletion, so this waits for them.
    Raises VectorStoreUnavailable, which names one of them, if they take longer than `seconds`.
    """
    give_up_at = time.monotonic() + seconds
    [(horizon,)] = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::xid").fetchall()
    while older := connection.execute(_OLDER_TRANSACTIONS.encode(), [horizon]).fetchall():
        if time.monotonic() > give_up_at:
            pid, name, age = older[0]
            raise VectorStoreUnavailable(
                f"a transaction of `{name}` (process {pid} of the database server) has been open for {age}: "
                "deleted rows stay until it ends"
            )
        time.sleep(_LOOK_AGAIN_SECONDS)  # the server sends no event for it
    for table in tables:
        # An index of vectors takes long to clean, and has no text: the server's autovacuum does it.
        connection.execute(f"VACUUM (INDEX_CLEANUP OFF, TRUNCATE OFF) {table}".encode())


_OLDER_TRANSACTIONS = """
SELECT pid, application_name, date_trunc('second', now() - xact_start)::text FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND age(backend_xmin) > age(%s::xid)
AND backend_type <> 'autovacuum worker' AND query NOT LIKE 'VACUUM%%'
"""
