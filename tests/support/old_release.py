"""A database as release 0.1 left it (schema 0002), with the rows it had."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, MetaData, create_engine, func, insert, select, text

from embedfleet.sql import migrations, tables
from embedfleet.vectors.chroma.layout import collection_name

# The rest is empty after a stop, or made by the migrations.
_COPIED = [
    tables.tenants,
    tables.usage,
    tables.collections,
    tables.documents,
    tables.generations,
    tables.segments,
    tables.chunks,
    tables.jobs,
    tables.batches,
    tables.vectors,
]
_NUMBERED = {"collections": "collection_id", "generations": "generation_id", "dead_letters": "dead_letter_id"}


def build(url: str, source: Path, dead_letters: list[dict[str, object]]) -> None:
    """Make the empty database at `url` one of schema 0002 with the rows of the SQLite file `source`, as far
    as 0002 has columns for them, and these dead letters."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    known = create_engine(f"sqlite:///{source}")
    try:
        _build(engine, known, dead_letters)
    finally:
        engine.dispose()
        known.dispose()


def _build(engine: Engine, known: Engine, dead_letters: list[dict[str, object]]) -> None:
    with engine.begin() as conn:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = conn
        command.upgrade(config, "0002")
    old = MetaData()
    old.reflect(engine)
    assert "events" not in old.tables
    assert "run" not in old.tables["dead_letters"].columns
    with engine.begin() as conn, known.connect() as found:
        for table in _COPIED:
            target = old.tables[table.name]
            by_name = {column.name: column for column in table.columns}
            query = select(*(by_name[column.name] for column in target.columns if column.name in by_name))
            rows = [dict(row._mapping) for row in found.execute(query)]
            if table is tables.collections:
                rows = [{**row, "name": collection_name(row["tenant_id"], row["space"])} for row in rows]
            if rows:
                conn.execute(insert(target), rows)
        if dead_letters:
            conn.execute(insert(old.tables["dead_letters"]), dead_letters)
        _go_on_numbering(conn)


def _go_on_numbering(conn: Connection) -> None:
    if conn.dialect.name == "sqlite":
        return
    for table, column in _NUMBERED.items():
        highest = select(func.max(text(column))).select_from(text(table)).scalar_subquery()
        conn.execute(select(func.setval(func.pg_get_serial_sequence(table, column), highest)))
