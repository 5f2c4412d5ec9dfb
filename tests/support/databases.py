"""Databases for tests, copied from one that was migrated once. Those of PostgreSQL are dropped afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from embedfleet.sql import migrations
from embedfleet.sql.sqlite import SqliteEngine
from support.postgres_server import PostgresServer

on_both_databases = pytest.mark.usefixtures("database_url")
"""Runs the test once for each system, which its `settings` and `configure` name."""


class PostgresDatabases:
    """The databases of one server."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server

    @contextmanager
    def migrated(self) -> Iterator[str]:
        """The URL of a database with this release's schema."""
        with self._new(self._template) as url:
            yield url

    @contextmanager
    def empty(self) -> Iterator[str]:
        """The URL of a database without any table."""
        with self._new("template1") as url:
            yield url

    @contextmanager
    def _new(self, template: str) -> Iterator[str]:
        name = self.server.create_database(template=template)
        try:
            yield self.server.url_of(name)
        finally:
            self.server.drop_database(name)

    @cached_property
    def _template(self) -> str:
        name = self.server.create_database(name="migrated")
        engine = create_engine(self.server.url_of(name).replace("postgresql:", "postgresql+psycopg:"))
        try:
            migrations.upgrade(engine, name)
        finally:
            engine.dispose()
        return name


class SqliteTemplate:
    """An SQLite database that was migrated once. A new one begins as its copy: all migrations take 60 ms, and
    hundreds of tests have a database of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._upgrade = migrations.upgrade  # the real one, whatever takes its place later

    def copy_to(self, path: Path) -> bool:
        """Make the file, unless there is one or it cannot be made. Returns whether it was made."""
        if path.exists() or not path.parent.is_dir():
            return False
        beside = path.with_name(f"{path.name}-copy")
        try:
            shutil.copyfile(self._migrated, beside)
            os.link(beside, path)  # fails if another has made one since
        except OSError:
            return False
        finally:
            with suppress(OSError):
                beside.unlink()
        return True

    @cached_property
    def _migrated(self) -> Path:
        path = self._folder / "migrated.db"
        engine = SqliteEngine(make_url(f"sqlite:///{path}"), synchronous="normal", busy_timeout_seconds=1)
        try:
            self._upgrade(engine._writer_engine, str(path))
        finally:
            engine.close()
        return path
