"""Searches through SQL. A process without the vector store asks here, and the owner of the store answers."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from embedfleet.sql.tables import searches


@dataclass(frozen=True, slots=True)
class AskedSearch:
    """A search without an answer. `request` is JSON that the asking process wrote."""

    search_id: str
    tenant: str
    request: str


def ask(conn: Connection, search_id: str, tenant: str, request: str, now: float) -> None:
    """Write a search that waits for its answer."""
    conn.execute(insert(searches).values(search_id=search_id, tenant=tenant, request=request, created_at=now))


def unanswered(conn: Connection, limit: int) -> list[AskedSearch]:
    """Return up to `limit` searches without an answer, oldest first."""
    query = select(searches).where(searches.c.response.is_(None)).order_by(searches.c.created_at)
    return [AskedSearch(row.search_id, row.tenant, row.request) for row in conn.execute(query.limit(limit))]


def answer(conn: Connection, search_id: str, response: str) -> None:
    """Write the answer of a search, as JSON. Nothing happens if the asking process has removed the search."""
    conn.execute(update(searches).where(searches.c.search_id == search_id).values(response=response))


def response(conn: Connection, search_id: str) -> str | None:
    """Return the answer, as JSON; None if there is none yet."""
    return conn.execute(select(searches.c.response).where(searches.c.search_id == search_id)).scalar()


def remove(conn: Connection, search_id: str) -> None:
    """Drop a search, because its answer was read or is no longer awaited."""
    conn.execute(delete(searches).where(searches.c.search_id == search_id))


def remove_older(conn: Connection, created_before: float) -> None:
    """Drop the searches that were asked before `created_before`. Their processes have died."""
    conn.execute(delete(searches).where(searches.c.created_at < created_before))
