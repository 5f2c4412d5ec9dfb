"""Reads the texts of documents where another system keeps them, and changes nothing there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedfleet.adoption.survey import DocumentKey
from embedfleet.errors import ConfigError, InvalidRequest

_TENANT = "{tenant}"
_IDS_AT_ONCE = 500
_BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class KnownText:
    """The text of a document, and what else its system knows of it. `gone`: its owner threw it away."""

    text: str
    title: str | None = None
    source: str | None = None
    gone: bool = False


class TextSource(Protocol):
    """The texts of documents."""

    async def texts(self, keys: Sequence[DocumentKey]) -> Mapping[DocumentKey, KnownText]:
        """Return the texts of these documents. One that the source does not have is left out.

        Raises ConfigError if the source cannot be read.
        """
        ...


class MediaTexts:
    """The table `Media` of tldw_server in SQLite. It is opened to be read only.

    A path with `{tenant}` names a file for each tenant.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    async def texts(self, keys: Sequence[DocumentKey]) -> Mapping[DocumentKey, KnownText]:
        return await asyncio.to_thread(self._read, keys)

    def _read(self, keys: Sequence[DocumentKey]) -> Mapping[DocumentKey, KnownText]:
        numbers: dict[str, dict[int, DocumentKey]] = {}
        for key in keys:
            if key.media_id.isascii() and key.media_id.isdigit():
                numbers.setdefault(key.tenant, {})[int(key.media_id)] = key
        found: dict[DocumentKey, KnownText] = {}
        for tenant, wanted in numbers.items():
            with self._opened(tenant) as connection:
                for number, known in _media(connection, list(wanted)):
                    found[wanted[number]] = known
        return found

    @contextmanager
    def _opened(self, tenant: str) -> Iterator[sqlite3.Connection]:
        file = Path(self._path.replace(_TENANT, tenant))
        try:
            address = f"{file.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as connection:
                yield connection
        except sqlite3.Error as exc:
            raise ConfigError(f"{file}: cannot be read as a media database of tldw_server ({exc})") from exc


def _media(connection: sqlite3.Connection, numbers: Sequence[int]) -> Iterator[tuple[int, KnownText]]:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(Media)")}
    trash = " OR ".join(name for name in ("deleted", "is_trash") if name in columns) or "0"
    title, url = (name if name in columns else "NULL" for name in ("title", "url"))
    for first in range(0, len(numbers), _IDS_AT_ONCE):
        ids = numbers[first : first + _IDS_AT_ONCE]
        query = (
            f"SELECT id, content, {title}, {url}, {trash} FROM Media "
            f"WHERE id IN ({', '.join('?' * len(ids))})"
        )
        for number, content, name, address, gone in connection.execute(query, ids):
            yield number, KnownText(content or "", name or None, address or None, bool(gone))


def text_source_of(address: str) -> TextSource:
    """Return the source of this address: `sqlite:PATH`, a media database of tldw_server.

    Raises InvalidRequest for any other address.
    """
    kind, _, place = address.partition(":")
    if kind != "sqlite" or not place:
        raise InvalidRequest(f"texts from `{address}`: must be like sqlite:/path/to/media.db")
    return MediaTexts(place)
