"""The audit log: what operators and admins did. Rows are only added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from embedfleet.records.cursors import Listing, Page
from embedfleet.records.scope import Scope
from embedfleet.sql.tables import audit

LOCAL = "local"
"""The actor of what is done beside the database, without an API key."""

_LISTING = Listing("audit log", (int,))


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done. `actor` is the prefix of a key, or `LOCAL`.

    `tenant` is None for what concerns no single tenant. `details` are names and numbers, and hold neither a
    secret nor text of a document.
    """

    actor: str
    action: str
    tenant: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecordedDeed:
    """A deed with its number and its instant, a Unix time."""

    number: int
    at: float
    deed: Deed


def add(conn: Connection, deed: Deed, now: float) -> None:
    """Record a deed, in the transaction that does it."""
    conn.execute(
        insert(audit).values(
            at=now,
            actor=deed.actor,
            action=deed.action,
            tenant=deed.tenant,
            details=json.dumps(dict(deed.details), sort_keys=True),
        )
    )


def page(conn: Connection, scope: Scope, *, limit: int, after: str | None) -> Page[RecordedDeed]:
    """Return up to `limit` deeds about tenants within the scope, newest first."""
    query = select(audit).where(scope.rows(audit.c.tenant)).order_by(audit.c.audit_id.desc())
    if after is not None:
        query = query.where(audit.c.audit_id < _LISTING.key_after(after)[0])
    rows = conn.execute(query.limit(limit + 1)).mappings()
    found = [
        RecordedDeed(
            row["audit_id"],
            row["at"],
            Deed(row["actor"], row["action"], row["tenant"], json.loads(row["details"])),
        )
        for row in rows
    ]
    return _LISTING.page(found, limit, lambda one: (one.number,))
