"""Reads documents of tldw's Media databases: one SQLite file a user. No database is written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from embedfleet.errors import InvalidRequest, Transient, UnknownDocument

BASE_DIR_ENV = "USER_DB_BASE_DIR"
"""The environment variable by which tldw names the folder of its users."""

FILE_NAME = "Media_DB_v2.db"
# tldw may be writing: SQLite then waits this long for it.
_BUSY_SECONDS = 30.0
_QUERY = "SELECT title, content, type, author, url FROM Media WHERE id = ? AND deleted = 0 AND is_trash = 0"


@dataclass(frozen=True, slots=True)
class MediaItem:
    """What tldw has of one item: its whole text, and what describes it."""

    content: str
    title: str | None = None
    media_type: str | None = None
    author: str | None = None
    url: str | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """What tldw's search reads beside the text, under the names that it reads."""
        said = {name: getattr(self, name) for name in ("title", "media_type", "author", "url")}
        return {name: value for name, value in said.items() if value}


LoadItem = Callable[[str, int], MediaItem]
"""Gives an item by user id and media id. Raises UnknownDocument if there is none."""


class MediaDatabases:
    """The databases below one folder, `FOLDER/USER/Media_DB_v2.db`. A `LoadItem`. Threads may share it."""

    def __init__(self, base_dir: str | os.PathLike[str] | None = None) -> None:
        """Without a folder, that of `USER_DB_BASE_DIR`. Raises InvalidRequest if that names none either."""
        named = base_dir or os.environ.get(BASE_DIR_ENV)
        if not named:
            raise InvalidRequest(
                f"the folder of tldw's users is not known: give it, or set {BASE_DIR_ENV}", field="base_dir"
            )
        self._base_dir = Path(named)

    def __call__(self, user_id: str, media_id: int) -> MediaItem:
        """Return the item. One that is deleted or in the trash counts as unknown.

        Raises UnknownDocument; InvalidRequest for a user id that is no name of a folder; Transient if the
        database cannot be read now.
        """
        path = self.path_of(user_id)
        unknown = f"user `{user_id}` has no media `{media_id}`"
        if not path.is_file():
            raise UnknownDocument(f"{unknown}: there is no database {path}")
        try:
            # Not `immutable`, as tldw may be writing. So SQLite may leave an empty log and its index behind.
            with closing(self._open(path)) as connection:
                row = connection.execute(_QUERY, (media_id,)).fetchone()
        except sqlite3.Error as exc:
            raise Transient(f"{path}: cannot be read ({exc})") from exc
        if row is None:
            raise UnknownDocument(f"{unknown} in {path}, or it is deleted")
        title, content, media_type, author, url = row
        return MediaItem(content or "", title, media_type, author, url)

    def path_of(self, user_id: str) -> Path:
        """Return where the user's database is. Raises InvalidRequest for what is no name of a folder."""
        if user_id in ("", ".", "..") or Path(user_id).name != user_id:
            raise InvalidRequest(f"user_id: `{user_id}` is no name of a user's folder", field="user_id")
        return self._base_dir / user_id / FILE_NAME

    def _open(self, path: Path) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
