"""The tables of the store, and what their database must have.

The store makes its tables itself, in the schema `embedfleet_vectors`. They are not part of the migrations of
SQL's schema (`sql.migrations`): those are of the records, also in SQLite, and an operator runs them. This
store is a view of the records. It may be in another database, and is dropped and filled again at any time.

- `collections` numbers the collections. `identity` tells them apart; `tenant` and `space` are for people.
- `vectors` and `texts` have the rows of small collections, side by side, so that thousands of tenants need no
  tables of their own. A search compares the query with each row of its collection, which is exact.
- A collection that has grown gets two tables of its own, `vectors_N` and `texts_N`. Then its vectors are
  indexed (`upkeep`), and what is deleted of it is vacuumed without a look at other tenants.
- `segments` says which rows of a collection an index has.
- `mark` has the mark of the system.

A vector is in a table of its own, without its text: a comparison of all reads little, and a new text or other
metadata touch no index of vectors. `seq` grows with each write of a vector: an index has the rows of a range
of `seq`, so a row that is written again leaves its index and waits for the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from embedfleet.errors import ConfigError, one_line
from embedfleet.printable import harmless
from embedfleet.vectors.pgvector.tables import functions_schema
from embedfleet.vectors.port import CollectionKey

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA = "embedfleet_vectors"
_LAYOUT = 1
# The first release with scans of an index that go on until there are enough rows.
_OLDEST_EXTENSION = (0, 8)
# All that this store locks in the server is under this number ("vect"), which other programs do not use.
_LOCKS = 0x76656374
_SCHEMA_LOCK, _TENDING_LOCK = 0, 1

Run = Callable[[str, Sequence[Any]], list[Any]]
"""Runs a statement with its parameters in a transaction, and returns its rows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A collection as the table `collections` has it."""

    number: int
    dim: int
    own_tables: bool

    @property
    def vectors(self) -> str:
        return f"{SCHEMA}.vectors_{self.number}" if self.own_tables else f"{SCHEMA}.vectors"

    @property
    def texts(self) -> str:
        return f"{SCHEMA}.texts_{self.number}" if self.own_tables else f"{SCHEMA}.texts"


@dataclass(frozen=True)
class Extension:
    """Where the extension is: `schema` is quoted, `vector_oid` is the number of the type `vector`."""

    schema: str
    vector_oid: int

    @cached_property
    def vector(self) -> str:
        return f"{self.schema}.vector"

    @cached_property
    def cosine_distance(self) -> str:
        """The operator, by its full name: the extension may be in a schema that is not searched."""
        return f"OPERATOR({self.schema}.<=>)"


SHARED = Entry(0, 0, own_tables=False)
"""Leads to the tables of all small collections. No collection has its number."""


def identity_of(collection: CollectionKey) -> bytes:
    """Return what tells the collection from any other, whatever characters its names have."""
    raw = collection.tenant.encode("utf-8", "surrogatepass")
    # The length in front says where the tenant ends: ("ab", "c") and ("a", "bc") differ.
    space = collection.space.encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"%d:%b%b" % (len(raw), raw, space)).digest()


def lock_shared(run: Run, collection: CollectionKey) -> None:
    """Until the transaction ends, keep the rows of the collection in the tables in which they are now."""
    run("SELECT pg_advisory_xact_lock_shared(%s, %s)", (_LOCKS, _lock_number(identity_of(collection))))


def lock_alone(run: Run, identity: bytes) -> None:
    """Wait until no transaction writes into the collection, and keep others from it until this one ends."""
    run("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCKS, _lock_number(identity)))


def try_to_tend(run: Run) -> bool:
    """Take the lock of upkeep for this connection. Returns False if another process has it."""
    [(taken,)] = run("SELECT pg_try_advisory_lock(%s, %s)", (_LOCKS, _TENDING_LOCK))
    return bool(taken)


def end_tending(run: Run) -> None:
    run("SELECT pg_advisory_unlock(%s, %s)", (_LOCKS, _TENDING_LOCK))


def _lock_number(identity: bytes) -> int:
    # Two collections may share a number: then they wait for each other a little more often.
    return int.from_bytes(identity[:4], "big", signed=True)


def find(run: Run, collection: CollectionKey) -> Entry | None:
    """Return the entry of the collection; None if there is none."""
    found = run(
        f"SELECT number, dim, own_tables FROM {SCHEMA}.collections WHERE identity = %s",
        (identity_of(collection),),
    )
    return Entry(*found[0]) if found else None


def add(run: Run, collection: CollectionKey) -> None:
    """Add the collection, unless another process has."""
    run(
        f"INSERT INTO {SCHEMA}.collections (identity, tenant, space, dim) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (identity) DO NOTHING",
        (identity_of(collection), harmless(collection.tenant), harmless(collection.space), collection.dim),
    )


def own_tables(entry: Entry, extension: Extension) -> Sequence[str]:
    """Return the statements that make the tables of this entry, empty and without an index of vectors."""
    return [
        # A row with a vector of up to 2,000 dimensions stays in one piece, so a comparison reads it at once.
        f'CREATE TABLE {entry.vectors} (collection integer NOT NULL, id text COLLATE "C" NOT NULL, '
        f"seq bigint GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME {entry.vectors}_numbers), "
        f"vector {extension.vector} NOT NULL, "
        "PRIMARY KEY (collection, id)) WITH (toast_tuple_target = 8160)",
        f'CREATE TABLE {entry.texts} (collection integer NOT NULL, id text COLLATE "C" NOT NULL, '
        "metadata jsonb NOT NULL, document text, PRIMARY KEY (collection, id))",
    ]


def prepare(connection: Connection[Any], place: str) -> Extension:
    """Make the extension and the tables if they are missing. Returns where the extension is.

    Raises ConfigError, which has the statement to run, if this user has no right to make them.
    """
    with connection.transaction():
        extension = _extension(connection, place)
        found = connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.layout"]).fetchone()
        if found is None or found[0] is None:
            _make_tables(connection, extension, place)
        held = connection.execute(f"SELECT version FROM {SCHEMA}.layout").fetchone()
    if held is None or held[0] != _LAYOUT:
        raise ConfigError(
            f"{place}: its schema {SCHEMA} is of another release of embedfleet: upgrade this one, or "
            "drop the schema and build the vectors again from SQL"
        )
    return extension


def _extension(connection: Connection[Any], place: str) -> Extension:
    import psycopg

    schema = functions_schema(connection)
    if schema is None:
        try:
            with connection.transaction():
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except psycopg.errors.InsufficientPrivilege as exc:
            raise ConfigError(
                f"{place}: the extension pgvector is missing, and this user may not create it: run "
                "`CREATE EXTENSION vector` there as a superuser"
            ) from exc
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as exc:
            raise ConfigError(
                f"{place}: pgvector is not installed on the server ({one_line(exc)}): install it, or use "
                "another vector_store.kind"
            ) from exc
        schema = functions_schema(connection)
    found = connection.execute(
        "SELECT extversion, quote_ident(n.nspname), t.oid FROM pg_extension e "
        "JOIN pg_namespace n ON n.oid = e.extnamespace "
        "JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = 'vector' WHERE extname = 'vector'"
    ).fetchone()
    assert found is not None, "created above"
    version, quoted, oid = found
    if tuple(int(part) for part in str(version).split(".")[:2]) < _OLDEST_EXTENSION:
        raise ConfigError(
            f"{place}: pgvector {version} is too old: install 0.8 or later and run "
            "`ALTER EXTENSION vector UPDATE` there"
        )
    return Extension(str(quoted), int(oid))


def _make_tables(connection: Connection[Any], extension: Extension, place: str) -> None:
    import psycopg

    # Processes that start together make them one after the other; the later ones find them made.
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", [_LOCKS, _SCHEMA_LOCK])
    try:
        # `CREATE SCHEMA IF NOT EXISTS` asks for the right to create one even if it is there.
        there = connection.execute("SELECT to_regnamespace(%s)", [SCHEMA]).fetchone()
        if there is None or there[0] is None:
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
        if connection.execute("SELECT to_regclass(%s)", [f"{SCHEMA}.layout"]).fetchone() != (None,):
            return
        for statement in (*_TABLES, *own_tables(SHARED, extension)):
            connection.execute(statement.encode())
        connection.execute(f"INSERT INTO {SCHEMA}.layout VALUES ({_LAYOUT})")
    except psycopg.errors.InsufficientPrivilege as exc:
        raise ConfigError(
            f"{place}: this user may not make the tables of the vector store ({one_line(exc)}): run "
            f"`CREATE SCHEMA {SCHEMA} AUTHORIZATION USER` there, with its name in place of USER"
        ) from exc


_TABLES = (
    f"CREATE TABLE {SCHEMA}.layout (version integer NOT NULL)",
    f"CREATE TABLE {SCHEMA}.mark (one boolean PRIMARY KEY DEFAULT true CHECK (one), mark text NOT NULL)",
    f"CREATE TABLE {SCHEMA}.collections (number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    "identity bytea NOT NULL UNIQUE, tenant text NOT NULL, space text NOT NULL, dim integer NOT NULL, "
    "crowded boolean NOT NULL DEFAULT false, own_tables boolean NOT NULL DEFAULT false)",
    f"CREATE TABLE {SCHEMA}.segments (collection integer NOT NULL, first_seq bigint NOT NULL, "
    "past_seq bigint NOT NULL, rows bigint NOT NULL, PRIMARY KEY (collection, first_seq))",
)
