"""API keys: how one is made, told from others, and what it allows. It is pure: the rows are elsewhere.

A key is `ef_PREFIX_SECRET`. The prefix names the key in lists, logs and bills. The secret has 190 random
bits. So a plain hash is enough: a list of all possible secrets cannot be made, as it could of passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_PREFIX_CHARS = 10
_SECRET_CHARS = 32
# Letters and digits only, so that a double click selects a whole key.
_OF_PREFIX = string.ascii_lowercase + string.digits
_OF_SECRET = string.ascii_letters + string.digits
_KEY = re.compile(rf"ef_([a-z0-9]{{{_PREFIX_CHARS}}})_[A-Za-z0-9]{{{_SECRET_CHARS}}}", re.ASCII)


class Scope(StrEnum):
    """What a key allows.

    `READ` is to look and to search, `WRITE` to submit and delete as well. `ADMIN` is about the keys and the
    usage of its tenant, and not about its documents. `OPERATOR` allows everything, for every tenant.
    """

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key. `text` is shown once and never stored."""

    text: str
    prefix: str
    hash: bytes

    def __repr__(self) -> str:
        return f"MadeKey({self.prefix})"


def make_key() -> MadeKey:
    """Make a key from the random source of the operating system."""
    prefix = "".join(secrets.choice(_OF_PREFIX) for _ in range(_PREFIX_CHARS))
    secret = "".join(secrets.choice(_OF_SECRET) for _ in range(_SECRET_CHARS))
    text = f"ef_{prefix}_{secret}"
    return MadeKey(text, prefix, hash_of(text))


def prefix_of(text: str) -> str | None:
    """Return the prefix of a key; None for a text that cannot be a key."""
    found = _KEY.fullmatch(text)
    return None if found is None else found[1]


def hash_of(text: str) -> bytes:
    """Return the hash of a whole key, which is stored in its place: 32 bytes of SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def is_key(text: str, stored_hash: bytes) -> bool:
    """Whether the text is the key with this hash. How long it takes does not tell how much of it is right."""
    return hmac.compare_digest(hash_of(text), stored_hash)


def is_usable(now: float, *, expires_at: float | None, revoked_at: float | None) -> bool:
    """Whether a key may be used at `now`. At the instant at which it expires it may not."""
    return revoked_at is None and (expires_at is None or now < expires_at)


def allowed_by(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return all that these scopes allow: `OPERATOR` includes every scope, and `WRITE` includes `READ`."""
    given = frozenset(scopes)
    if Scope.OPERATOR in given:
        return frozenset(Scope)
    return given | {Scope.READ} if Scope.WRITE in given else given
