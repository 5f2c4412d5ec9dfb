"""Chunk rows into PostgreSQL: what the chunking worker does (`chunks.add`: executemany, in pipeline mode)
beside COPY into a temporary table and INSERT ... SELECT from it.

    EMBEDFLEET_DATABASE__URL=postgresql://USER@HOST/SCRATCH_DATABASE python benchmarks/bulk_rows.py

Makes the schema in that database if it is missing, and leaves rows behind. Each round is a transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from report import write_report
from sqlalchemy import Connection

from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.records import chunks, collections, documents, generations, segments
from embedfleet.records.chunks import ChunkRow
from embedfleet.settings import load_settings
from embedfleet.sql import document_lock
from embedfleet.sql.database import Database

SIZES = (8, 64, 512)  # a small document, a batch, the batches of one write
Way = Callable[[Connection, str, int, Sequence[ChunkRow]], None]
COLUMNS = 'generation_id, chunk_index, chunk_id, start, "end", tokens, heading'


def executemany(conn: Connection, document_id: str, generation_id: int, rows: Sequence[ChunkRow]) -> None:
    chunks.add(conn, [(document_id, generation_id, rows)])


def copy(conn: Connection, _document_id: str, generation_id: int, rows: Sequence[ChunkRow]) -> None:
    driver: Any = conn.connection.driver_connection
    cursor = driver.cursor()
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE chunks) ON COMMIT DELETE ROWS")
    with cursor.copy(f"COPY incoming ({COLUMNS}) FROM STDIN") as into:
        for row in rows:
            key = bytes.fromhex(row.chunk_id)
            into.write_row((generation_id, row.chunk_index, key, row.start, row.end, row.tokens, row.heading))
    cursor.execute(f"INSERT INTO chunks ({COLUMNS}) SELECT {COLUMNS} FROM incoming ON CONFLICT DO NOTHING")


def new_version(conn: Connection, document_id: str) -> int:
    document_lock.lock(conn, [document_id])
    wanted = collections.Wanted("t", model="m", space="s", dim=8)
    collection = collections.ensure(conn, [wanted])[wanted.key]
    documents.ensure_documents(conn, [documents.DocumentName(document_id, "t", document_id, None)], 0.0)
    older = generations.generations_of(conn, document_id)
    new = generations.NewGeneration(
        document_id,
        number=older[0].number + 1 if older else 1,
        recipe=generations.Recipe("h", None, "text", 1, ChunkingConfig(), 64),
        collection=collection,
        texts=[segments.Segment.of(0, 0, "x")],
        chunker_version=1,
    )
    return generations.add_generations(conn, [new])[0]


def locked(
    conn: Connection, way: Way, document_id: str, generation_id: int, rows: Sequence[ChunkRow]
) -> None:
    document_lock.lock(conn, [document_id])
    way(conn, document_id, generation_id, rows)


async def measure(url: str, rounds: int) -> dict[str, Any]:
    database = Database(url)
    await database.upgrade_schema()
    await database.open()
    ways: dict[str, Way] = {"executemany": executemany, "copy": copy}
    seconds: dict[str, list[float]] = {}
    try:
        for size in SIZES:
            for _ in range(rounds):
                for name, way in ways.items():
                    document_id = os.urandom(16).hex()
                    generation_id = await database.write(partial(new_version, document_id=document_id))
                    rows = [
                        ChunkRow(n, os.urandom(16).hex(), n * 800, n * 800 + 900, 200, "A > B")
                        for n in range(size)
                    ]
                    unit = partial(locked, way=way, document_id=document_id, generation_id=generation_id)
                    started = perf_counter()
                    await database.write(partial(unit, rows=rows))
                    seconds.setdefault(f"{name}, {size} rows", []).append(perf_counter() - started)
    finally:
        await database.close()
    return {
        f"{name}, ms": {
            "median": round(statistics.median(taken) * 1000, 2),
            "min": round(min(taken) * 1000, 2),
            "max": round(max(taken) * 1000, 2),
        }
        for name, taken in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    write_report("bulk_rows", asyncio.run(measure(load_settings().database_url, arguments.rounds)))


if __name__ == "__main__":
    main()
