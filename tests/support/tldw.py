"""A stand-in for a tldw_server: its users' Media databases, and its functions that mark how a job ended.

The tables, paths and signatures are those that tldw documents; its code is not used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS Media (
    id INTEGER PRIMARY KEY AUTOINCREMENT, url TEXT UNIQUE, title TEXT NOT NULL, type TEXT NOT NULL,
    content TEXT, author TEXT, is_trash BOOLEAN DEFAULT 0 NOT NULL,
    chunking_status TEXT DEFAULT 'pending' NOT NULL, vector_processing INTEGER DEFAULT 0 NOT NULL,
    deleted BOOLEAN NOT NULL DEFAULT 0
)
"""


@dataclass(slots=True)
class StandInDatabase:
    """tldw's media database of one user."""

    path: Path
    failures: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection

    def fail(self, times: int) -> None:
        """Raise at the next marks, as a database does that is locked."""
        self.failures = times

    def add(self, media_id: int, content: str, **more: object) -> None:
        """Add an item, or change it."""
        values = {"id": media_id, "content": content, "title": f"Title {media_id}", "type": "document"} | more
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        with self._connected() as connection:
            connection.execute(
                f"INSERT OR REPLACE INTO Media ({names}) VALUES ({marks})", tuple(values.values())
            )

    def vector_processing(self, media_id: int) -> int:
        with self._connected() as connection:
            row = connection.execute("SELECT vector_processing FROM Media WHERE id = ?", (media_id,))
            return int(row.fetchone()[0])

    def mark(self, media_id: int, value: int) -> None:
        if self.failures:
            self.failures -= 1
            raise sqlite3.OperationalError("database is locked")
        with self._connected() as connection:
            connection.execute("UPDATE Media SET vector_processing = ? WHERE id = ?", (value, media_id))

    def mark_embeddings_error(self, media_id: int, error_message: str) -> None:
        self.mark(media_id, -1)
        self.errors.append((media_id, error_message))


def mark_media_as_processed(db_instance: StandInDatabase, media_id: int) -> None:
    db_instance.mark(media_id, 1)


@dataclass(slots=True)
class StandIn:
    """The folder of all users."""

    base_dir: Path
    databases: dict[str, StandInDatabase] = field(default_factory=dict)

    def of(self, user_id: str) -> StandInDatabase:
        """Return the media database of a user, which is made at the first call."""
        if user_id not in self.databases:
            folder = self.base_dir / user_id
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "Media_DB_v2.db"
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(_SCHEMA)
            self.databases[user_id] = StandInDatabase(path)
        return self.databases[user_id]


@dataclass(slots=True)
class SynchronousPath:
    """A stand-in for tldw's `generate_embeddings_for_media`: it keeps the calls."""

    calls: list[tuple[str, int]] = field(default_factory=list)
    refused: frozenset[int] = frozenset()

    async def generate_embeddings_for_media(
        self,
        media_id: int,
        media_content: dict[str, Any],
        embedding_model: str,
        embedding_provider: str,
        chunk_size: int,
        chunk_overlap: int,
        user_id: str = "1",
    ) -> dict[str, Any]:
        text = media_content["content"]["content"]
        if media_id in self.refused:
            return {"status": "error", "message": "the model is away", "embedding_count": 0}
        self.calls.append((user_id, media_id))
        words = max(len(text.split()), 1)
        chunks = -(-words // (chunk_size - chunk_overlap))
        return {"status": "success", "embedding_count": chunks, "chunks_processed": chunks}
