"""pgvector as a kind of vector store (`vectors.registry.StoreKind`).

The store is in the database of `vector_store.url`. Without that setting it is in the database that has the
records, and rows are committed with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedfleet.errors import ConfigError
from embedfleet.settings import Settings
from embedfleet.validation import HOW_TO_ENCODE, is_encoded
from embedfleet.vectors.port import VectorStore

TITLE = "pgvector"

_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")


async def open_store(settings: Settings) -> VectorStore:
    address = _address(settings)
    try:
        from embedfleet.vectors.pgvector.store import PgvectorStore
    except ImportError as exc:
        raise ConfigError(
            f"pgvector needs psycopg ({exc}): install the extra `pgvector` of embedfleet"
        ) from exc
    return await PgvectorStore.open(
        address,
        place(settings),
        timeout_seconds=settings.vector_store.timeout_seconds,
        beside_records=settings.vector_store.url in (None, settings.database_url),
    )


async def open_for_queries(settings: Settings) -> VectorStore:
    return await open_store(settings)


def place(settings: Settings) -> str:
    address = _address(settings)
    host = address.get("host") or "localhost"
    port = f":{address['port']}" if address.get("port") else ""
    return f"postgresql://{host}{port}/{address.get('dbname', '')}"


def own_directory(settings: Settings) -> Path | None:
    return None


def _address(settings: Settings) -> Mapping[str, Any]:
    """Return libpq's parameters of the database. Raises ConfigError if it is not PostgreSQL."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    given = settings.vector_store.url
    setting = "vector_store.url" if given is not None else "database.url"
    url = given if given is not None else settings.database_url
    scheme, separator, rest = url.partition("://")
    if scheme not in _SCHEMES or not separator:
        raise ConfigError(
            f"setting `vector_store.kind` is `pgvector`, but `{setting}` names no PostgreSQL database: set "
            "`vector_store.url` or `database.url` to postgresql://USER@HOST/DATABASE"
        )
    if not is_encoded(url):
        raise ConfigError(f"{setting}: it has a special character in its user or password: {HOW_TO_ENCODE}")
    try:
        # As SQL's own connections read it, so that both reach the same database.
        parsed = make_url(f"postgresql+psycopg://{rest}")
        _, address = parsed.get_dialect()().create_connect_args(parsed)
    except (ArgumentError, ValueError):  # not chained with `from`: its text may hold half of the password
        raise ConfigError(
            f"{setting}: not a URL; use postgresql://USER:PASSWORD@HOST/DATABASE (special characters of the "
            "password percent-encoded)"
        ) from None
    return address
