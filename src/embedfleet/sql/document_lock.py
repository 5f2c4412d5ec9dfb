"""The lock of a document, which gives it one writer at a time.

The invariant: **a unit that changes a document's generations, chunks, vectors or jobs takes the document's
lock before it reads any of them.** PostgreSQL runs units side by side. Without the lock, two units could each
decide on rows that the other has changed but not committed. They could

- lose vectors: one unit marks vectors for deletion to which the other unit has just begun to refer;
- give two generations the same number;
- count a batch for a run that has ended.

SQLite runs units one after the other, so there the lock costs nothing.

Chunk ids are derived from their document, so documents share no rows and this one lock is enough. Units take
locks in a fixed order, so that they cannot wait for each other in a circle: tenant (for admission's quota;
`tenants.lock`), documents by id, jobs by id. If two units deadlock all the same, the server undoes one of
them after a second, and that unit runs again.

Functions that change a document's rows call `require`. So a unit that forgot the lock fails in every test, on
SQLite too.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from embedfleet.sql.rows import RowsStatement

_HELD = "embedfleet documents locked"

_LOCK = RowsStatement(
    "WITH given(document_id) AS (VALUES {rows}) "
    "SELECT documents.document_id FROM given JOIN documents ON documents.document_id = given.document_id "
    "ORDER BY documents.document_id FOR UPDATE OF documents"
)


class DocumentNotLocked(Exception):
    """A unit changes a document without holding its lock. This is a defect in the code of the unit."""


def begin(conn: Connection) -> None:
    """Record that a unit begins and holds no locks yet."""
    conn.info[_HELD] = set()


def lock(conn: Connection, document_ids: Iterable[str]) -> bool:
    """Lock the documents until the unit ends. A unit calls this once, before it reads.

    Returns whether the unit may have waited for the lock. If so, rows that it read before may be out of date.
    A document that does not exist needs no lock: the unit that creates its row holds it from then on.
    """
    ids = sorted(set(document_ids))
    conn.info.setdefault(_HELD, set()).update(ids)
    if not ids or conn.dialect.name == "sqlite":
        return False
    _LOCK.run(conn, [(document_id,) for document_id in ids])
    return True


def require(conn: Connection, document_id: str) -> None:
    """Raise DocumentNotLocked unless this unit holds the document's lock."""
    if document_id not in conn.info.get(_HELD, ()):
        raise DocumentNotLocked(f"document {document_id}: lock it before looking at anything of it")
