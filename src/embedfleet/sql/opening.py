"""Builds the `Database` that the settings describe."""

from __future__ import annotations

from embedfleet.data_directory import create_data_dir
from embedfleet.metrics import Metrics
from embedfleet.settings import Settings
from embedfleet.sql.database import Database


def open_database(settings: Settings, metrics: Metrics | None = None) -> Database:
    """Return the database of these settings, not open yet. Create the data directory if SQLite needs it."""
    if settings.database.url is None:
        create_data_dir(settings.data_dir)
    return Database(
        settings.database_url,
        synchronous=settings.database.synchronous,
        busy_timeout_seconds=settings.database.busy_timeout_seconds,
        pool_size=settings.database.pool_size,
        connect_timeout_seconds=settings.database.connect_timeout_seconds,
        seconds=None if metrics is None else metrics.sql_seconds,
    )
