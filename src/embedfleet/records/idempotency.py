"""Requests that came with an idempotency key, and their answers.

A row is a claim until it has an answer: `status` is NULL, `response` names the claim, and `created_at` is
when its holder renewed it. A change of the row must name the claim. So a holder that was paused until another
request took its claim over cannot touch the row any more.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from embedfleet.sql.tables import idempotency_keys
from embedfleet.sql.upsert import upsert

KEPT_SECONDS = 24 * 3600.0
"""How long an answer is given again. Clients repeat a request for minutes; a day is what they expect."""


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The key that a tenant gave to a request on a route."""

    tenant: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A request with a key. While it is being answered, `status` is None and `response` names the claim.

    `at` is the time of the answer, or else of the claim, in Unix seconds.
    """

    request_hash: bytes
    status: int | None
    response: str
    at: float


def claim(
    conn: Connection, key: RequestKey, request_hash: bytes, *, name: str, now: float
) -> KnownRequest | None:
    """Claim the key for a request. Return None if that succeeded, otherwise the request that has the key."""
    insert = upsert(conn.dialect.name, idempotency_keys).on_conflict_do_nothing()
    # What is returned tells whether a row was written: an INSERT has no reliable count of rows.
    first = insert.returning(idempotency_keys.c.key)
    row = asdict(key) | {"request_hash": request_hash, "response": name, "created_at": now}
    while True:
        if conn.execute(first, row).first() is not None:
            return None
        found = conn.execute(select(idempotency_keys).where(_of(key))).one_or_none()
        # If the claim was given up just after the insert met it, the next insert succeeds.
        if found is not None:
            return KnownRequest(found.request_hash, found.status, found.response, found.created_at)


def take_over(
    conn: Connection, key: RequestKey, request_hash: bytes, *, known: KnownRequest, name: str, now: float
) -> bool:
    """Claim a key whose claim was abandoned, or whose answer is too old.

    Return False if the row changed since it was read: another request was faster.
    """
    columns = idempotency_keys.c
    unchanged = and_(_of(key), columns.response == known.response, columns.created_at == known.at)
    new = {"request_hash": request_hash, "status": None, "response": name, "created_at": now}
    return bool(conn.execute(update(idempotency_keys).where(unchanged).values(new)).rowcount)


def renew(conn: Connection, key: RequestKey, *, name: str, now: float) -> bool:
    """Say that the request is still being answered. Return False if the claim was taken over."""
    held = update(idempotency_keys).where(_held(key, name))
    return bool(conn.execute(held.values(created_at=now)).rowcount)


def answer(conn: Connection, key: RequestKey, *, name: str, status: int, response: str, now: float) -> bool:
    """Record the answer. Return False if the claim was taken over."""
    held = update(idempotency_keys).where(_held(key, name))
    return bool(conn.execute(held.values(status=status, response=response, created_at=now)).rowcount)


def give_up(conn: Connection, key: RequestKey, *, name: str) -> None:
    """Drop the claim of a request that made nothing: the key is free again. An answer stays."""
    conn.execute(delete(idempotency_keys).where(_held(key, name)))


def drop_old(conn: Connection, limit: int, *, before: float) -> int:
    """Delete up to `limit` of the rows from before `before`. Return how many were found."""
    columns = idempotency_keys.c
    old = columns.created_at < before
    query = select(columns.tenant, columns.route, columns.key).where(old).order_by(columns.created_at)
    found = conn.execute(query.limit(limit)).all()
    for row in found:
        # Its time is compared again: the key may have been claimed since.
        conn.execute(delete(idempotency_keys).where(_of(RequestKey(*row)), old))
    return len(found)


def _of(key: RequestKey) -> ColumnElement[bool]:
    columns = idempotency_keys.c
    return and_(columns.tenant == key.tenant, columns.route == key.route, columns.key == key.key)


def _held(key: RequestKey, name: str) -> ColumnElement[bool]:
    """The condition that the row is still this claim."""
    return and_(_of(key), idempotency_keys.c.status.is_(None), idempotency_keys.c.response == name)
