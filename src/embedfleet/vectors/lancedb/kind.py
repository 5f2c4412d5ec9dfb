"""LanceDB as a kind of vector store (`vectors.registry.StoreKind`): a directory, or an object store.

If the settings have `vector_store.path`, the store is there, and any number of processes may use it.
Otherwise it is a directory in the data directory, which one process owns.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from embedfleet.errors import ConfigError
from embedfleet.settings import Settings
from embedfleet.vectors.port import VectorStore

TITLE = "LanceDB"

# What Lance reads and writes beside directories.
_OBJECT_STORES = ("s3", "gs", "az", "abfss", "oss")


async def open_store(settings: Settings) -> VectorStore:
    from embedfleet.vectors.lancedb.store import LanceVectorStore

    own = own_directory(settings)
    return await LanceVectorStore.open(_root(settings), shared=own is None)


async def open_for_queries(settings: Settings) -> VectorStore:
    from embedfleet.vectors.lancedb.store import LanceVectorStore

    # It owns nothing, also in the data directory: what looks like a leftover there may be of another process.
    return await LanceVectorStore.open(_root(settings), shared=True)


def place(settings: Settings) -> str:
    return _root(settings)


def own_directory(settings: Settings) -> Path | None:
    return settings.data_dir / "lancedb" if settings.vector_store.path is None else None


def _root(settings: Settings) -> str:
    """Return the directory, or the URL of the object store, below which the tables are.

    Raises ConfigError for a URL that Lance does not know or that holds a password.
    """
    given = settings.vector_store.path
    if given is None:
        return str(settings.data_dir / "lancedb")
    url = urlsplit(given)
    if "://" not in given:
        return given.rstrip("/") or "/"
    if url.scheme not in _OBJECT_STORES:
        raise ConfigError(
            f"setting `vector_store.path`: LanceDB knows no {url.scheme}://: give a directory, or one of "
            + ", ".join(f"{scheme}://BUCKET/PATH" for scheme in _OBJECT_STORES)
        )
    if url.password is not None or url.query:
        raise ConfigError(
            "setting `vector_store.path`: keep credentials out of it, and give them to the process as the "
            "object store's own variables, such as AWS_ACCESS_KEY_ID"
        )
    return given.rstrip("/")
