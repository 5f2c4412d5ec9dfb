"""The vector stores that one suite runs over, and how a test opens and examines each.

A new kind joins by an entry in `STORES`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest

from embedfleet.settings import Settings, load_settings
from embedfleet.vectors.lancedb.layout import MARK_TABLE, SPACES_TABLE
from embedfleet.vectors.port import VectorStore
from embedfleet.vectors.registry import store_kind
from support.chroma_server import ChromaServer
from support.import_path import import_path
from support.qdrant_server import QdrantServer
from support.s3_server import S3Bucket


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A place where nothing is yet. A store of one kind may be opened there, closed and opened again, also by
    another process.

    `overrides` are the settings that lead there. `held_text` returns all that the files, logs and tables of
    the store have: a text that was stored is in it as it was written. It may be called while the store is
    open. It is None for a store that does not promise to forget. `put_away` puts an empty place in place of
    this one, as a mount point without its mount is; None for a place that only one process sees.
    """

    overrides: Mapping[str, Any]
    held_text: Callable[[], str] | None
    put_away: Callable[[], None] | None = None

    @property
    def settings(self) -> Settings:
        return load_settings(environ={}, overrides=self.overrides)

    async def open(self) -> VectorStore:
        """Open the store as the processes of a system do."""
        return await store_kind(self.settings.vector_store.kind).open_store(self.settings)

    def text(self) -> str:
        """What `held_text` returns."""
        assert self.held_text is not None, "this store does not promise to forget"
        return self.held_text()

    @contextmanager
    def killed_writer(self) -> Iterator[Iterator[int]]:
        """Run `support.store_writer` on this place. Yields the numbers of the batches that it has written.

        It goes on with the next batch at once, and is killed in the midst of it when the block ends.
        """
        with subprocess.Popen(
            [sys.executable, "-m", "support.store_writer", json.dumps(self.overrides), str(os.getpid())],
            env=os.environ | {"PYTHONPATH": import_path(Path(__file__).parents[1])},
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            try:
                yield map(int, writer.stdout)
            finally:
                writer.kill()


OpenPlace: TypeAlias = Callable[[pytest.FixtureRequest, Path], Awaitable[StorePlace]]


async def chroma(request: pytest.FixtureRequest, folder: Path) -> StorePlace:
    database = folder / "data" / "chroma" / "chroma.sqlite3"
    return StorePlace(overrides(folder), partial(_rows_of, database))


async def chroma_server(request: pytest.FixtureRequest, folder: Path) -> StorePlace:
    server: ChromaServer = request.getfixturevalue("chroma_server")
    await asyncio.to_thread(server.drop_all)
    database = server.directory / "chroma.sqlite3"
    return StorePlace(overrides(folder, url=server.url), partial(_rows_of, database), server.drop_all)


async def lancedb(request: pytest.FixtureRequest, folder: Path) -> StorePlace:
    place = folder / "data" / "lancedb"
    return StorePlace(overrides(folder, kind="lancedb"), partial(lance_text, place), partial(_unmount, place))


async def lancedb_shared(request: pytest.FixtureRequest, folder: Path) -> StorePlace:
    """In a directory that any number of processes may use."""
    place = folder / "shared"
    return StorePlace(
        overrides(folder, kind="lancedb", path=str(place)),
        partial(lance_text, place),
        partial(_unmount, place),
    )


async def lancedb_on_s3(request: pytest.FixtureRequest, folder: Path) -> StorePlace:
    """In a bucket that any number of processes may use."""
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return StorePlace(
        overrides(folder, kind="lancedb", path=bucket.url), partial(text_of_objects, bucket), bucket.empty
    )


async def pgvector(request: pytest.FixtureRequest, folder: Path) -> StorePlace:
    """In a database of its own, beside records in SQLite."""
    url: str = request.getfixturevalue("empty_postgres_url")
    return StorePlace(
        overrides(folder, kind="pgvector", url=url),
        partial(rows_in_postgres, url),
        partial(_empty_tables, url),
    )


async def qdrant(request: pytest.FixtureRequest, folder: Path) -> StorePlace:
    server: QdrantServer = request.getfixturevalue("qdrant_server")
    return StorePlace(overrides(folder, kind="qdrant", url=server.url), None, server.drop_all)


ON_S3 = "lancedb on s3"

STORES: Mapping[str, OpenPlace] = {
    "chroma": chroma,
    "chroma server": chroma_server,
    "lancedb": lancedb,
    "lancedb shared": lancedb_shared,
    ON_S3: lancedb_on_s3,
    "pgvector": pgvector,
    "qdrant": qdrant,
}


def overrides(folder: Path, **vector_store: Any) -> dict[str, Any]:
    """The settings of a store, with a data directory in the folder, which is made."""
    data_dir = folder / "data"
    data_dir.mkdir(exist_ok=True)
    return {"data_dir": str(data_dir), "vector_store": vector_store}


def _unmount(folder: Path) -> None:
    folder.rename(folder.with_name("unmounted"))
    folder.mkdir()


def _empty_tables(url: str) -> None:
    """As in a database that another process has just made the tables in."""
    with psycopg.connect(url) as conn:
        for table in ("collections", "vectors", "texts", "mark"):
            conn.execute(f"DELETE FROM embedfleet_vectors.{table}".encode())


def _rows_of(file: Path) -> str:
    """Every row of every table of an SQLite database."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as conn:
        tables = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "".join(repr(conn.execute(f'SELECT * FROM "{name}"').fetchall()) for name in tables)


def lance_text(folder: Path) -> str:
    """Every row of every file of Lance, also of files that no version of a table has any more."""
    from lance.file import LanceFileReader

    return "".join(
        repr(LanceFileReader(str(file)).read_all().to_table().drop_columns(["vector"]).to_pylist())
        for file in sorted(folder.glob("*.lance/data/*.lance"))
        if file.parent.parent.stem not in (MARK_TABLE, SPACES_TABLE)
    )


def text_of_objects(bucket: S3Bucket) -> str:
    """Every object of a bucket as it lies there, and every row of every file of Lance in it."""
    with tempfile.TemporaryDirectory() as copy:
        bucket.copy_to(Path(copy))
        tables = Path(copy, "vectors")
        as_they_lie = (file.read_bytes().decode("latin-1") for file in tables.rglob("*") if file.is_file())
        return lance_text(tables) + "".join(as_they_lie)


def rows_in_postgres(url: str) -> str:
    """All rows in the files of the store's tables, also those that no statement sees any more and that no
    vacuum has removed yet."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CHECKPOINT")  # so that the files have what was written
        files = conn.execute(
            "SELECT pg_read_binary_file(pg_relation_filepath(c.oid)) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname IN ('embedfleet_vectors', 'pg_toast') AND c.relkind IN ('r', 't')"
        ).fetchall()
    rows = [
        row
        for (file,) in files
        for page in range(0, len(file), 8192)
        for row in _rows_of_page(file[page : page + 8192])
    ]
    return b"\n".join(rows).decode(errors="replace")


def _rows_of_page(page: bytes) -> Iterator[bytes]:
    """What the line pointers of a page of a table lead to. The rest of the page is free space."""
    past_pointers = int.from_bytes(page[12:14], "little")
    for place in range(24, past_pointers, 4):
        pointer = int.from_bytes(page[place : place + 4], "little")
        offset, length = pointer & 0x7FFF, pointer >> 17
        yield page[offset : offset + length]
