"""Where a vector store's server is, and what it is told to let us in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from embedfleet.errors import ConfigError
from embedfleet.validation import HOW_TO_ENCODE, is_encoded


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the server of a store is, and the credentials it gets. `url` and `repr` show none of them."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    login: tuple[str, str] | None = field(repr=False)

    @classmethod
    def parse(cls, url: str, headers: Mapping[str, str]) -> ServerAddress:
        """Parse a url, which may contain a user and a password.

        Raises ConfigError, whose message quotes nothing that may be secret.
        """
        if not is_encoded(url):
            raise ConfigError(
                f"vector_store.url: it has a special character in its user or password: {HOW_TO_ENCODE}"
            )
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # the port is no number, or a bracket is left open
            host = None
        if host is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise ConfigError("vector_store.url: must be like http://host:8000 or https://host/path")
        for name, value in headers.items():
            # Refused here, as httpx would refuse it with the secret value in the message.
            if not ((name + value).isascii() and (name + value).isprintable() and value == value.strip()):
                raise ConfigError(
                    f"vector_store.token: the header {name!r} can hold printable ASCII only, without blanks "
                    "at its ends: correct it"
                )
        return cls(_shown(parts, host, port), dict(headers), _login(parts))


def _shown(parts: SplitResult, host: str, port: int | None) -> str:
    """Return the url without user and password."""
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def _login(parts: SplitResult) -> tuple[str, str] | None:
    """Return the user and password of the url; None if it names no user."""
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")
