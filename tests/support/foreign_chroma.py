"""Collections that another system left in Chroma, written with Chroma's own client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.vectors.chroma.clients import open_directory, open_server
from embedfleet.vectors.server_address import ServerAddress
from support.hangs import HANG_SECONDS

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

    from embedfleet.vectors.chroma.clients import ServerClient


@dataclass(frozen=True, slots=True)
class ForeignRows:
    """The rows of a collection. `texts` None: the rows have none."""

    ids: Sequence[str]
    vectors: NDArray[np.float32]
    metadatas: Sequence[Mapping[str, Any] | None]
    texts: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class ForeignCollection:
    name: str
    rows: ForeignRows
    distance: str = "l2"
    metadata: Mapping[str, Any] = field(default_factory=lambda: {"owner": "another system"})


def write_directory(directory: Path, collections: Sequence[ForeignCollection]) -> None:
    """Write a directory of Chroma, as a system leaves it that has stopped."""
    directory.mkdir(parents=True, exist_ok=True)
    client = open_directory(directory)
    _write(client, collections)
    client.close()


@contextmanager
def written_server(url: str, collections: Sequence[ForeignCollection]) -> Iterator[None]:
    """Write the collections to a server, and drop them after the block."""
    client = open_server(ServerAddress.parse(url, {}), timeout_seconds=HANG_SECONDS, connections=1)
    _write(client, collections)
    try:
        yield
    finally:
        for collection in collections:
            client.delete_collection(collection.name)
        client.close()


def bytes_of(directory: Path) -> dict[str, str]:
    """The hash of every file, and the name of every folder."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(directory.rglob("*"))
    }


def _write(client: ClientAPI | ServerClient, collections: Sequence[ForeignCollection]) -> None:
    for collection in collections:
        made = client.get_or_create_collection(
            collection.name,
            metadata=dict(collection.metadata),
            configuration={"hnsw": {"space": collection.distance}},
            embedding_function=None,
        )
        rows = collection.rows
        size = client.get_max_batch_size()
        for first in range(0, len(rows.ids), size):
            part = slice(first, first + size)
            made.upsert(
                ids=list(rows.ids[part]),
                embeddings=rows.vectors[part],
                metadatas=list(rows.metadatas[part]),
                documents=None if rows.texts is None else list(rows.texts[part]),
            )
