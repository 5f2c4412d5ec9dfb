"""The API keys as the API asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from embedfleet.api_keys import Scope


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that is valid now. `tenant` is None for the key of an operator.

    `requests_per_minute` are the limits that a request with it counts against, by `key` or `tenant` and the
    name of that.
    """

    prefix: str
    tenant: str | None
    scopes: frozenset[Scope]
    requests_per_minute: Mapping[tuple[str, str], int]


class KeyRing(Protocol):
    """Looks up API keys."""

    async def any_exists(self) -> bool:
        """Whether the system has an API key. Without one, the API is open to this machine."""
        ...

    async def find(self, key: str) -> KnownKey | None:
        """Return the key of this text; None if it is unknown, expired or revoked."""
        ...
