"""What tests of properties of SQL share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine

from embedfleet.sql.schema import SCHEMA


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A new database with all tables; SQLite is in memory."""
    if database_url.startswith("sqlite"):
        engine = create_engine("sqlite://")
        SCHEMA.create_all(engine)
    else:
        engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()
