"""Copies of an embedded system's SQL database, which is all that is needed: vectors are made from it again.

A backup is a tar of `manifest.json` and `database.zst`. PostgreSQL has its own tools (docs/operations.md).
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, delete, make_url, update

from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.records import fleet
from embedfleet.settings import Settings
from embedfleet.sql import migrations
from embedfleet.sql.tables import leadership, orchestrators, searches

_MANIFEST = "manifest.json"
_DATABASE = "database.zst"
_PAGES_PER_STEP = 2_000
_READ_BYTES = 2**20
_MOST_MANIFEST_BYTES = 2**16

Progress = Callable[[int, int], None]
"""Told (pages copied, pages there are)."""


class Manifest(BaseModel):
    """What a backup says of itself. `sha256` is of the database before it was compressed."""

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
    """Raises ConfigError where there is no such file."""
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ConfigError(
            "backup and restore are for SQLite: with PostgreSQL use pg_dump and pg_restore, then "
            "`embedfleet db upgrade` and `embedfleet rebuild` (docs/operations.md)"
        )
    return Path(url.database)


def write_backup(
    source: Path, target: Path, *, overwrite: bool, progress: Progress | None = None
) -> Manifest:
    """Copy the database while others write to it; blocking. The file appears whole or not at all.

    Raises InvalidRequest if it exists, ConfigError if there is no database or the copy is damaged.
    """
    if target.exists() and not overwrite:
        raise InvalidRequest(f"{target} exists: choose another name, or --force to replace it")
    if not source.exists():
        raise ConfigError(f"{source}: there is no database to back up: check --data-dir")
    try:
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as scratch:
            copy = Path(scratch) / "database"
            _copy_online(source, copy, progress)
            manifest = _describe(copy)
            packed = Path(scratch) / _DATABASE
            with copy.open("rb") as plain, packed.open("wb") as out:
                zstandard.ZstdCompressor(level=3, threads=-1).copy_stream(plain, out)
            _write_tar(Path(scratch) / "tar", manifest, packed).replace(target)
    except sqlite3.Error as exc:
        raise ConfigError(f"{source}: cannot be copied ({exc}): restore an earlier backup") from exc
    except OSError as exc:
        raise ConfigError(f"{target}: cannot write it ({exc.strerror or exc}): choose another place") from exc
    return manifest


def unpack_backup(source: Path, target: Path) -> Manifest:
    """Write the database of a backup to `target`, which is removed again unless all of it is as written.

    Raises InvalidRequest for a file that is no backup, or damaged, or of a newer release.
    """
    try:
        with tarfile.open(source) as tar:
            manifest = Manifest.model_validate_json(_member(tar, _MANIFEST).read(_MOST_MANIFEST_BYTES))
            _require_known_schema(source, manifest)
            found = _unpack(_member(tar, _DATABASE), target)
    except (OSError, EOFError, KeyError, tarfile.TarError, ValidationError, zstandard.ZstdError) as exc:
        target.unlink(missing_ok=True)
        reason = " ".join(str(exc).split())
        raise InvalidRequest(f"{source} is no backup that can be read ({reason}): use another") from exc
    if found != manifest.sha256:
        target.unlink()
        raise InvalidRequest(f"{source} is damaged (its database is not what was backed up): use another")
    return manifest


def forget_processes(conn: Connection) -> None:
    """Drop what belonged to processes that ran when the backup was made."""
    for table in (orchestrators, searches):
        conn.execute(delete(table))
    fleet.forget_broker_epoch(conn)
    conn.execute(update(leadership).values(holder=None))


def _copy_online(source: Path, copy: Path, progress: Progress | None) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as reading,
        closing(sqlite3.connect(copy)) as writing,
    ):
        # One snapshot for all steps: else every write of another process would begin the copy anew. In WAL
        # mode it holds nobody up.
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()

        def tell(_status: int, remaining: int, total: int) -> None:
            if progress is not None:
                progress(total - remaining, total)

        reading.backup(writing, pages=_PAGES_PER_STEP, progress=tell, sleep=0)
        reading.rollback()
        # The copy is one file: the mode is written into it.
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
            said = manifest.to_json().encode()
            entry = tarfile.TarInfo(_MANIFEST)
            entry.size = len(said)
            tar.addfile(entry, io.BytesIO(said))
            tar.add(packed, arcname=_DATABASE)
        out.flush()
        os.fsync(out.fileno())
    path.chmod(0o600)
    return path


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    found = tar.extractfile(name)
    if found is None:
        raise KeyError(f"{name} is no file")
    return found


def _unpack(packed: IO[bytes], target: Path) -> str:
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
