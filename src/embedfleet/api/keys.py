"""The API keys as the API asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from embedfleet.api_keys import Scope


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that is valid now. `tenant` is None for the key of an operator."""

    prefix: str
    tenant: str | None
    scopes: frozenset[Scope]


class KeyRing(Protocol):
    """Looks up API keys."""

    async def any_exists(self) -> bool:
        """Whether the system has an API key. Without one, the API is open to this machine."""
        ...

    async def find(self, key: str) -> KnownKey | None:
        """Return the key of this text; None if it is unknown, expired or revoked."""
        ...


class NoKeys:
    """The key ring of a system without keys."""

    async def any_exists(self) -> bool:
        return False

    async def find(self, key: str) -> KnownKey | None:
        return None
