"""Searches through SQL: a process without the vector store writes them here, its owner answers them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from embedfleet.sql.tables import searches


@dataclass(frozen=True, slots=True)
class AskedSearch:
    """A search without an answer. `request`: JSON of the process that asks."""

    search_id: str
    tenant: str
    request: str


def ask(conn: Connection, search_id: str, tenant: str, request: str, now: float) -> None:
    conn.execute(insert(searches).values(search_id=search_id, tenant=tenant, request=request, created_at=now))


def unanswered(conn: Connection, limit: int) -> list[AskedSearch]:
    """The first `limit` searches without an answer, oldest first."""
    query = select(searches).where(searches.c.response.is_(None)).order_by(searches.c.created_at)
    return [AskedSearch(row.search_id, row.tenant, row.request) for row in conn.execute(query.limit(limit))]


def answer(conn: Connection, search_id: str, response: str) -> None:
    conn.execute(update(searches).where(searches.c.search_id == search_id).values(response=response))


def response(conn: Connection, search_id: str) -> str | None:
    """The answer, as JSON; None if there is none yet."""
    return conn.execute(select(searches.c.response).where(searches.c.search_id == search_id)).scalar()


def remove(conn: Connection, search_id: str) -> None:
    conn.execute(delete(searches).where(searches.c.search_id == search_id))


def remove_older(conn: Connection, created_before: float) -> None:
    """Drop searches of processes that died before they could read the answer."""
    conn.execute(delete(searches).where(searches.c.created_at < created_before))
