"""API keys: a prefix, the hash of the whole key, whose it is and what it allows.

A row is never deleted. A system that had a key once asks for one always, even if all are revoked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from embedfleet.api_keys import Scope as KeyScope
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.scope import Scope
from embedfleet.sql.tables import api_keys

_LISTING = Listing("API keys", (float, str))


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key. `tenant` is None for the key of an operator. Instants are Unix seconds."""

    prefix: str
    hash: bytes
    tenant: str | None
    name: str
    scopes: tuple[KeyScope, ...]
    requests_per_minute: int | None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None


def add(conn: Connection, key: KeyRow) -> None:
    """Write a new key."""
    conn.execute(
        insert(api_keys).values(
            prefix=key.prefix,
            hash=key.hash,
            tenant=key.tenant,
            name=key.name,
            scopes=" ".join(key.scopes),
            requests_per_minute=key.requests_per_minute,
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
        )
    )


def any_exists(conn: Connection) -> bool:
    """Whether there is any key, usable or not."""
    return conn.execute(select(api_keys.c.prefix).limit(1)).first() is not None


def get(conn: Connection, prefix: str) -> KeyRow | None:
    """Return the key with this prefix, usable or not; None if there is none."""
    row = conn.execute(select(api_keys).where(api_keys.c.prefix == prefix)).mappings().first()
    return None if row is None else _key(row)


def lock(conn: Connection, scope: Scope, prefix: str) -> KeyRow | None:
    """Lock the key within the scope until the transaction ends, and return it; None if there is none."""
    query = select(api_keys).where(api_keys.c.prefix == prefix, scope.rows(api_keys.c.tenant))
    row = conn.execute(query.with_for_update()).mappings().first()
    return None if row is None else _key(row)


def page(conn: Connection, scope: Scope, *, limit: int, after: str | None) -> Page[KeyRow]:
    """Return up to `limit` keys within the scope, newest first, the revoked and expired ones too."""
    query = select(api_keys).where(scope.rows(api_keys.c.tenant))
    query = query.order_by(api_keys.c.created_at.desc(), api_keys.c.prefix).limit(limit + 1)
    if after is not None:
        created_at, prefix = _LISTING.key_after(after)
        same = (api_keys.c.created_at == created_at) & (api_keys.c.prefix > prefix)
        query = query.where((api_keys.c.created_at < created_at) | same)
    found = [_key(row) for row in conn.execute(query).mappings()]
    return _LISTING.page(found, limit, lambda key: (key.created_at, key.prefix))


def revoke(conn: Connection, prefix: str, now: float) -> None:
    """Make the key unusable from now on. The first time counts."""
    unrevoked = (api_keys.c.prefix == prefix) & api_keys.c.revoked_at.is_(None)
    conn.execute(update(api_keys).where(unrevoked).values(revoked_at=now))


def revoke_all_of_tenant(conn: Connection, tenant: str, now: float) -> int:
    """Make the keys of a tenant unusable from now on. Return how many were not revoked before."""
    unrevoked = (api_keys.c.tenant == tenant) & api_keys.c.revoked_at.is_(None)
    return conn.execute(update(api_keys).where(unrevoked).values(revoked_at=now)).rowcount


def set_expiry(conn: Connection, prefix: str, expires_at: float) -> None:
    """Make the key unusable from this instant on."""
    conn.execute(update(api_keys).where(api_keys.c.prefix == prefix).values(expires_at=expires_at))


def set_used(conn: Connection, prefix: str, now: float) -> None:
    """Record that the key was used about now."""
    conn.execute(update(api_keys).where(api_keys.c.prefix == prefix).values(used_at=now))


def _key(row: Any) -> KeyRow:
    return KeyRow(
        prefix=row["prefix"],
        hash=bytes(row["hash"]),
        tenant=row["tenant"],
        name=row["name"],
        scopes=tuple(KeyScope(name) for name in row["scopes"].split()),
        requests_per_minute=row["requests_per_minute"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        used_at=row["used_at"],
    )
