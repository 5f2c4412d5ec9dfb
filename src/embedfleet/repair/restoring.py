"""Restores the database of a backup into a data directory; the caller rebuilds the vector store from it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from embedfleet.data_directory import DataDirectoryLock, create_data_dir
from embedfleet.errors import ConfigError, InvalidRequest, Remedy
from embedfleet.repair.backup import Manifest, database_file, forget_processes, unpack_backup
from embedfleet.repair.rebuilding import put_aside
from embedfleet.settings import Settings
from embedfleet.sql.database import Database


async def restore_database(
    settings: Settings, source: Path, *, replace: bool
) -> tuple[Manifest, Path | None]:
    """Returns the backup's manifest, and the path to which an existing data directory was moved.

    The backup is checked before anything is changed. Raises DataDirectoryInUse; InvalidRequest if the
    directory is not empty (unless `replace`) or the backup is damaged; ConfigError if the settings name a
    database outside of the data directory.
    """
    if settings.database.url is not None:
        database_file(settings)  # raises the more helpful error for PostgreSQL
        raise ConfigError("database.url: restore writes into the data directory: leave it empty")
    data_dir = settings.data_dir.absolute()
    restored = await asyncio.to_thread(_put_in_place, data_dir, source, replace)
    with DataDirectoryLock(data_dir, purpose="restore"):
        database = Database(settings.database_url)
        try:
            await database.open()
            await database.write(forget_processes)
        finally:
            await database.close()
    return restored


def _put_in_place(data_dir: Path, source: Path, replace: bool) -> tuple[Manifest, Path | None]:
    occupied = data_dir.exists() and any(data_dir.iterdir())
    if occupied and not replace:
        raise InvalidRequest(
            f"{data_dir} is not empty: choose another data directory, or allow it to be moved aside",
            remedy=Remedy.REPLACE_DATA_DIRECTORY,
        )
    create_data_dir(data_dir.parent)
    with TemporaryDirectory(prefix=f".{data_dir.name}.restoring-", dir=data_dir.parent) as scratch:
        unpacked = Path(scratch) / "database"
        manifest = unpack_backup(source, unpacked)
        aside: Path | None = None
        if occupied:
            # The lock is held during the move, so no other process starts in the directory while it moves.
            with DataDirectoryLock(data_dir, purpose="restore"):
                aside = put_aside(data_dir, "before-restore")
        create_data_dir(data_dir)
        unpacked.rename(data_dir / "embedfleet.db")
    return manifest, aside
