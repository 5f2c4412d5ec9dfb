"""Reads the texts of documents where another system keeps them, and changes nothing there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from embedfleet.adoption.survey import DocumentKey
from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.paging import pages

_TENANT = "{tenant}"
_IDS_AT_ONCE = 500
# A longer number may be more than SQLite's 64 bits, so it is the id of no media item.
_MOST_DIGITS = 18
_BUSY_SECONDS = 30.0
# Of SQLite's file format: the byte that says how the file is read, and its value with a write-ahead log.
_HEADER_BYTES = 20
_FORMAT_BYTE = 19
_LOGGED = 2


@dataclass(frozen=True, slots=True)
class KnownText:
    """The text of a document, and what else its system knows of it. `gone`: its owner threw it away."""

    text: str
    title: str | None = None
    source: str | None = None
    gone: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


class TextSource(Protocol):
    """The texts of documents."""

    async def texts(self, keys: Sequence[DocumentKey]) -> Mapping[DocumentKey, KnownText]:
        """Return the texts of these documents. One that the source does not have any more is left out.

        One that cannot be in it, as its id is none of the source's, has an empty text.

        Raises ConfigError if the source cannot be read.
        """
        ...


class MediaTexts:
    """The table `Media` of tldw_server in SQLite. Nothing is written.

    A path with `{tenant}` names a file for each tenant. If a file has a log beside it, its system is running
    or was killed: then SQLite may write its own index of that log.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    async def texts(self, keys: Sequence[DocumentKey]) -> Mapping[DocumentKey, KnownText]:
        return await asyncio.to_thread(self._read, keys)

    def _read(self, keys: Sequence[DocumentKey]) -> Mapping[DocumentKey, KnownText]:
        numbers: dict[str, dict[int, DocumentKey]] = {key.tenant: {} for key in keys}
        found: dict[DocumentKey, KnownText] = {}
        for key in keys:
            if key.media_id.isascii() and key.media_id.isdigit() and len(key.media_id) <= _MOST_DIGITS:
                numbers[key.tenant][int(key.media_id)] = key
            else:
                found[key] = KnownText("")
        for tenant, wanted in numbers.items():
            with self._opened(tenant) as connection:
                for number, known in _media(connection, list(wanted)):
                    found[wanted[number]] = known
        return found

    @contextmanager
    def _opened(self, tenant: str) -> Iterator[sqlite3.Connection]:
        if _TENANT in self._path and Path(tenant).name != tenant:
            raise ConfigError(
                f"tenant `{tenant}` is no name of a file, so it cannot stand for {_TENANT} in "
                f"`{self._path}`: give the path without {_TENANT}"
            )
        file = Path(self._path.replace(_TENANT, tenant))
        try:
            address = f"{file.resolve().as_uri()}?{_mode(file)}"
            with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as connection:
                yield connection
        except (sqlite3.Error, OSError) as exc:
            raise ConfigError(f"{file}: cannot be read as a media database of tldw_server ({exc})") from exc


def _mode(file: Path) -> str:
    """Return how to open the file without leaving files beside it.

    SQLite makes a log and an index of it for a database that has a log in its header, also to read. Without a
    log there is no writer, and then the file may be read as one that does not change.
    """
    with file.open("rb") as opened:
        header = opened.read(_HEADER_BYTES)
    logged = len(header) == _HEADER_BYTES and header[_FORMAT_BYTE] == _LOGGED
    has_log = file.with_name(file.name + "-wal").exists()
    return "immutable=1" if logged and not has_log else "mode=ro"


def _media(connection: sqlite3.Connection, numbers: Sequence[int]) -> Iterator[tuple[int, KnownText]]:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(Media)")}
    trash = " OR ".join(name for name in ("deleted", "is_trash") if name in columns) or "0"
    # The names under which tldw_server's search reads what describes a media item.
    said = {"title": "title", "media_type": "type", "author": "author", "url": "url"}
    named = [column if column in columns else "NULL" for column in said.values()]
    for ids in pages(numbers, _IDS_AT_ONCE):
        query = (
            f"SELECT id, content, {trash}, {', '.join(named)} FROM Media "
            f"WHERE id IN ({', '.join('?' * len(ids))})"
        )
        for number, content, gone, *values in connection.execute(query, ids):
            metadata = {name: str(value) for name, value in zip(said, values, strict=True) if value}
            title, url = metadata.get("title"), metadata.get("url")
            yield number, KnownText(content or "", title, url, bool(gone), metadata)


def text_source_of(address: str) -> TextSource:
    """Return the source of this address: `sqlite:PATH`, a media database of tldw_server.

    Raises InvalidRequest for any other address.
    """
    kind, _, place = address.partition(":")
    if kind != "sqlite" or not place:
        raise InvalidRequest(f"texts from `{address}`: must be like sqlite:/path/to/media.db")
    return MediaTexts(place)
