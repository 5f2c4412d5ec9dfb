"""Backups of an embedded system's SQL database. They hold no vectors: a rebuild makes those from SQL.

A backup file is a tar of `manifest.json` and `database.zst`. PostgreSQL has its own tools:
see docs/operations.md.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, delete, make_url, update

from embedfleet.errors import ConfigError, InvalidRequest, Remedy, one_line
from embedfleet.records import backups, fleet, store_moves, systems
from embedfleet.settings import Settings
from embedfleet.sql import migrations
from embedfleet.sql.tables import leadership, orchestrators, searches

_MANIFEST = "manifest.json"
_DATABASE = "database.zst"
_PAGES_PER_STEP = 2_000  # of 4 KiB: progress is reported every 8 MB
_READ_BYTES = 2**20
_MAX_MANIFEST_BYTES = 2**16  # a manifest has some 300 bytes; a file that is no backup may claim any size

Progress = Callable[[int, int], None]
"""Called with (database pages copied so far, database pages in all)."""


class Manifest(BaseModel):
    """Describes a backup, inside of it. `sha256` is of the uncompressed database, in hex."""

    model_config = ConfigDict(frozen=True)

    format: int = Field(default=1, ge=1, le=1)
    db_schema: str = Field(alias="schema")
    release: str
    created: datetime
    sha256: str
    documents: int
    vectors: int

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=2)


def database_file(settings: Settings) -> Path:
    """The file of an SQLite database. Raises ConfigError for any other database."""
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ConfigError(
            "backup and restore are for SQLite: with PostgreSQL use pg_dump and pg_restore, then "
            "upgrade the schema and rebuild the vectors (docs/operations.md)",
            remedy=Remedy.UPGRADE_SCHEMA_AND_REBUILD,
        )
    return Path(url.database)


def write_backup(
    source: Path, target: Path, *, overwrite: bool, progress: Progress | None = None
) -> Manifest:
    """Write a backup of the database `source` to the file `target`. Blocks; other processes may write on.

    The file appears complete or not at all. Raises InvalidRequest if it exists and `overwrite` is off, or if
    it is a folder or a device; ConfigError if there is no database, if its copy is damaged, or if the backup
    cannot be written.
    """
    if target.exists() and not target.is_file():
        raise InvalidRequest(f"{target} is no regular file: name a file that the backup may be")
    if target.exists() and not overwrite:
        raise InvalidRequest(
            f"{target} exists: choose another name, or allow it to be replaced", remedy=Remedy.OVERWRITE_FILE
        )
    if not source.exists():
        raise ConfigError(
            f"{source}: there is no database to back up: check which data directory is meant",
            remedy=Remedy.CHOOSE_DATA_DIRECTORY,
        )
    _tell_of_backup(source, target)
    try:
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as scratch:
            copy = Path(scratch) / "database"
            _copy_online(source, copy, progress)
            manifest = _describe(copy)
            packed = Path(scratch) / _DATABASE
            with copy.open("rb") as plain, packed.open("wb") as out:
                zstandard.ZstdCompressor(level=3, threads=-1).copy_stream(plain, out)
            # The scratch directory is beside the target, on the same file system, so this rename is atomic.
            _write_tar(Path(scratch) / "tar", manifest, packed).replace(target)
    except sqlite3.Error as exc:
        raise ConfigError(f"{source}: cannot be copied ({exc}): restore an earlier backup") from exc
    except OSError as exc:
        raise ConfigError(f"{target}: cannot write it ({exc.strerror or exc}): choose another place") from exc
    return manifest


def unpack_backup(source: Path, target: Path) -> Manifest:
    """Write the database of the backup `source` to the new file `target`, and check its SHA-256.

    `target` is removed if anything is wrong. Raises InvalidRequest if `source` is no backup, is damaged, or
    comes from a newer release.
    """
    try:
        with tarfile.open(source) as tar:
            manifest = Manifest.model_validate_json(_member(tar, _MANIFEST).read(_MAX_MANIFEST_BYTES))
            _require_known_schema(source, manifest)
            found = _unpack(_member(tar, _DATABASE), target)
    except (OSError, EOFError, KeyError, tarfile.TarError, ValidationError, zstandard.ZstdError) as exc:
        target.unlink(missing_ok=True)
        reason = one_line(exc)
        raise InvalidRequest(f"{source} is no backup that can be read ({reason}): use another") from exc
    if found != manifest.sha256:
        target.unlink()
        raise InvalidRequest(f"{source} is damaged (its database is not what was backed up): use another")
    return manifest


def forget_processes(conn: Connection) -> None:
    """Delete the rows of the processes that ran when the backup was made.

    A restored copy is a system of its own too: the original may go on beside it.
    """
    systems.forget(conn)
    store_moves.forget(conn)
    for table in (orchestrators, searches):
        conn.execute(delete(table))
    fleet.forget_broker_epoch(conn)
    conn.execute(update(leadership).values(holder=None))


def _tell_of_backup(source: Path, target: Path) -> None:
    """Record the backup in the database, so that receipts of deletions can name it.

    Before the copy is made: the other way round, a crash would leave a file that no receipt names.
    """
    place = f"{source.absolute().as_uri()}?mode=rw"
    # A database that cannot be written must still be backed up.
    with suppress(sqlite3.Error), closing(sqlite3.connect(place, uri=True, timeout=30)) as conn, conn:
        conn.execute(backups.RECORD, backups.recorded_as(datetime.now(UTC), str(target.absolute())))


def _copy_online(source: Path, copy: Path, progress: Progress | None) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as reading,
        closing(sqlite3.connect(copy)) as writing,
    ):
        # This transaction keeps one snapshot for all steps. Without it, SQLite starts the copy again after
        # each write of another process. In WAL mode a reader's snapshot blocks no writer.
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()

        def report(_status: int, remaining: int, total: int) -> None:
            if progress is not None:
                progress(total - remaining, total)

        reading.backup(writing, pages=_PAGES_PER_STEP, progress=report, sleep=0)
        reading.rollback()
        # The header was copied too, and says WAL mode, which needs a second file. A backup is one file.
        writing.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = writing.execute("PRAGMA quick_check").fetchone()
    if verdict != "ok":
        raise ConfigError(f"{source} is damaged ({verdict}): restore an earlier backup")


def _describe(copy: Path) -> Manifest:
    with closing(sqlite3.connect(copy)) as conn:

        def ask(query: str) -> str:
            return str(conn.execute(query).fetchone()[0])

        return Manifest(
            schema=ask("SELECT version_num FROM alembic_version"),
            release=version("embedfleet"),
            created=datetime.now(UTC),
            sha256=_sha256(copy),
            documents=int(ask("SELECT count(*) FROM documents WHERE deleted_at IS NULL")),
            vectors=int(ask("SELECT count(*) FROM vectors WHERE state = 'stored'")),
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_tar(path: Path, manifest: Manifest, packed: Path) -> Path:
    with path.open("wb") as out:
        with tarfile.open(fileobj=out, mode="w") as tar:
            content = manifest.to_json().encode()
            entry = tarfile.TarInfo(_MANIFEST)
            entry.size = len(content)
            # First in the tar: a reader finds it without reading the database.
            tar.addfile(entry, io.BytesIO(content))
            tar.add(packed, arcname=_DATABASE)
        out.flush()
        os.fsync(out.fileno())  # before the rename, or a power cut could leave an empty file with its name
    path.chmod(0o600)  # a database holds documents: for its owner only
    return path


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    found = tar.extractfile(name)
    if found is None:
        raise KeyError(f"{name} is no file")
    return found


def _unpack(packed: IO[bytes], target: Path) -> str:
    """Decompress to `target`; returns the SHA-256 in hex."""
    digest = hashlib.sha256()
    with target.open("xb") as out, zstandard.ZstdDecompressor().stream_reader(packed) as plain:
        target.chmod(0o600)
        while block := plain.read(_READ_BYTES):
            digest.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _require_known_schema(source: Path, manifest: Manifest) -> None:
    if manifest.db_schema > migrations.HEAD:
        raise InvalidRequest(
            f"{source} was made by release {manifest.release} (schema {manifest.db_schema}), which is newer: "
            "upgrade embedfleet first"
        )
