"""The mailbox of searches: a process that does not own the vector store asks here, its owner answers."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from embedfleet.sql.tables import searches


@dataclass(frozen=True, slots=True)
class AskedSearch:
    """`request` is the asker's JSON."""

    search_id: str
    tenant: str
    request: str


def ask(conn: Connection, search_id: str, tenant: str, request: str, now: float) -> None:
    conn.execute(insert(searches).values(search_id=search_id, tenant=tenant, request=request, created_at=now))


def unanswered(conn: Connection, limit: int) -> list[AskedSearch]:
    query = select(searches).where(searches.c.response.is_(None)).order_by(searches.c.created_at)
    return [AskedSearch(row.search_id, row.tenant, row.request) for row in conn.execute(query.limit(limit))]


def answer(conn: Connection, search_id: str, response: str) -> None:
    conn.execute(update(searches).where(searches.c.search_id == search_id).values(response=response))


def response(conn: Connection, search_id: str) -> str | None:
    return conn.execute(select(searches.c.response).where(searches.c.search_id == search_id)).scalar()


def remove(conn: Connection, search_id: str) -> None:
    conn.execute(delete(searches).where(searches.c.search_id == search_id))


def remove_older(conn: Connection, created_before: float) -> None:
    """Drop what askers left behind when they died."""
    conn.execute(delete(searches).where(searches.c.created_at < created_before))
