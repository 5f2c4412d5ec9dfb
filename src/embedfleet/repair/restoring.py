"""A backup back into a data directory: the database; the vector store is rebuilt from it afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from embedfleet.data_directory import DataDirectoryLock, create_data_dir
from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.repair.backup import Manifest, database_file, forget_processes, unpack_backup
from embedfleet.repair.rebuilding import put_aside
from embedfleet.settings import Settings
from embedfleet.sql.database import Database


async def restore_database(
    settings: Settings, source: Path, *, replace: bool
) -> tuple[Manifest, Path | None]:
    """Returns what the backup says of itself, and where the data directory that was there is now.

    The backup is checked before anything is touched. Raises DataDirectoryInUse, InvalidRequest if the
    directory is not empty (unless `replace`) or the backup is not whole, ConfigError for another database.
    """
    if settings.database.url is not None:
        database_file(settings)
        raise ConfigError("database.url: restore writes into the data directory: leave it empty")
    data_dir = settings.data_dir.absolute()
    aside = await asyncio.to_thread(_put_in_place, data_dir, source, replace)
    with DataDirectoryLock(data_dir, purpose="restore"):
        database = Database(settings.database_url)
        try:
            await database.open()
            await database.write(forget_processes)
        finally:
            await database.close()
    return aside


def _put_in_place(data_dir: Path, source: Path, replace: bool) -> tuple[Manifest, Path | None]:
    occupied = data_dir.exists() and any(data_dir.iterdir())
    if occupied and not replace:
        raise InvalidRequest(
            f"{data_dir} is not empty: choose another --data-dir, or --force to move it aside"
        )
    create_data_dir(data_dir.parent)
    with TemporaryDirectory(prefix=f".{data_dir.name}.restoring-", dir=data_dir.parent) as scratch:
        unpacked = Path(scratch) / "database"
        manifest = unpack_backup(source, unpacked)
        aside: Path | None = None
        if occupied:
            # Held while it moves: the name is free for nobody else's start.
            with DataDirectoryLock(data_dir, purpose="restore"):
                aside = put_aside(data_dir, "before-restore")
        create_data_dir(data_dir)
        unpacked.rename(data_dir / "embedfleet.db")
    return manifest, aside
