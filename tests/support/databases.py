"""PostgreSQL databases for tests: cloned from one that was migrated once, dropped afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import pytest
from sqlalchemy import create_engine

from embedfleet.sql import migrations
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
