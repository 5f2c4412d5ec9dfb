"""One document, one writer at a time.

The invariant: **a unit that changes a document's versions, chunks, vectors or jobs holds the document's lock
before it looks at any of them.** On PostgreSQL units run side by side, and two that each decide on what the
other has not committed yet would lose vectors (one marks what the other has just begun to refer to), number
two versions alike, or count a batch of a run that is over. SQLite's units are serial already.

Chunk ids are made of their document, so documents have no rows in common and this one lock is enough. The
order, so that units wait in a row and not in a circle: tenant (admission's quota; `usage.set_tier`),
documents by id, jobs by id. Whoever breaks it is undone by the server, after a second, and run again.

Rows that hang on a document are changed by functions which call `require`, so a unit that forgot the lock
fails in every test, on SQLite too.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from embedfleet.sql.tables import documents

_HELD = "embedfleet documents locked"

_LOCK = (
    select(documents.c.document_id)
    .where(documents.c.document_id.in_(bindparam("ids", expanding=True)))
    .order_by(documents.c.document_id)
    .with_for_update()
)


class DocumentNotLocked(Exception):
    """A defect: a unit changes a document whose lock it does not hold."""


def begin(conn: Connection) -> None:
    """A new unit holds nothing."""
    conn.info[_HELD] = set()


def lock(conn: Connection, document_ids: Iterable[str]) -> bool:
    """Hold the documents until the unit ends; call it once a unit, first. Returns whether it may have had to
    wait: what the unit read before is worth nothing then.

    A document that does not exist needs no lock: whoever creates it holds its row from then on.
    """
    ids = sorted(set(document_ids))
    conn.info.setdefault(_HELD, set()).update(ids)
    if not ids or conn.dialect.name == "sqlite":
        return False
    conn.execute(_LOCK, {"ids": ids}).all()
    return True


def require(conn: Connection, document_id: str) -> None:
    """Raises DocumentNotLocked."""
    if document_id not in conn.info.get(_HELD, ()):
        raise DocumentNotLocked(f"document {document_id}: lock it before looking at anything of it")
