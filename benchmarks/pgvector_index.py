"""pgvector: what an index costs when it takes each row as it comes, and what it costs when it is built later.

Rows are passages of the standard library's sources with the vectors of the static model, 256-d. They are
written into the store with its upkeep afterwards, and, for comparison, into a table whose index is there from
the start. Then queries, which are other passages: recall of the 10 nearest by brute force and the time of a
query, by the indexes and of a small tenant that is compared. The server is PostgreSQL's, on a Unix socket of
this machine, without fsync.

    python benchmarks/pgvector_index.py --rows 50000
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from itertools import islice
from pathlib import Path
from time import perf_counter

import numpy as np
import psycopg
from corpus import slices
from numpy.typing import NDArray
from reference_models import load_static_model
from report import write_report

from embedfleet.vectors.pgvector.store import PgvectorStore
from embedfleet.vectors.port import StoreDebt, TenantSpace, VectorRows

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.postgres_server import PostgresServer

PASSAGE_CHARS, QUERIES, MOST = 300, 200, 10
BATCH_ROWS = 500
SMALL_ROWS = 5_000
LIVE_ROWS = 2_000
LARGE = TenantSpace("large", "static", 256)
SMALL = TenantSpace("small", "static", 256)


def embedded(count: int) -> NDArray[np.float32]:
    """float32 (count, 256), of passages in an order by chance, so that the last ones are fair queries."""
    texts = [text for _, text in islice(slices(count, PASSAGE_CHARS), count)]
    vectors = np.asarray(load_static_model().encode(texts), dtype=np.float32)
    return vectors[np.random.default_rng(0).permutation(len(vectors))]


async def written(
    store: PgvectorStore, collection: TenantSpace, vectors: NDArray[np.float32], first: int = 0
) -> float:
    """Rows per second. The id of a row is its number."""
    started = perf_counter()
    for start in range(0, len(vectors), BATCH_ROWS):
        part = vectors[start : start + BATCH_ROWS]
        ids = [f"{first + start + place}" for place in range(len(part))]
        texts = ["x" * PASSAGE_CHARS] * len(part)
        await store.upsert(collection, VectorRows(ids, part, [{"job_id": "j"}] * len(part), texts))
    return len(vectors) / (perf_counter() - started)


async def searched(
    store: PgvectorStore, collection: TenantSpace, vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> dict[str, float]:
    right, seconds = 0, []
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
    for query in queries:
        started = perf_counter()
        hits = await store.query(collection, query, limit=MOST)
        seconds.append(perf_counter() - started)
        nearest = -np.sort(-(vectors @ query) / lengths)[MOST - 1] / np.linalg.norm(query)
        # By score: texts that are alike have equal vectors, and any of them is right.
        right += sum(hit.score >= nearest - 1e-5 for hit in hits)
    return {
        "recall_at_10": right / (MOST * len(queries)),
        "median_ms": float(np.median(seconds)) * 1000,
        "p95_ms": float(np.quantile(seconds, 0.95)) * 1000,
    }


async def measured(url: str, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> dict[str, object]:
    store = await PgvectorStore.open({"conninfo": url}, "PostgreSQL", timeout_seconds=600)
    for collection in (LARGE, SMALL):
        await store.ensure_collection(collection)
    write = await written(store, LARGE, vectors)
    await written(store, SMALL, vectors[:SMALL_ROWS])
    started = perf_counter()
    while await store.debt() != StoreDebt():
        await store.tend()
    upkeep = perf_counter() - started
    figures: dict[str, object] = {
        "rows": len(vectors),
        "written_rows_per_second": write,
        "upkeep_rows_per_second": len(vectors) / upkeep,
        "into_a_live_index_rows_per_second": live_rate(url, vectors),
        "by_index": await searched(store, LARGE, vectors, queries),
        "small_tenant": await searched(store, SMALL, vectors[:SMALL_ROWS], queries),
    }
    await store.close()
    return figures


def live_rate(url: str, vectors: NDArray[np.float32]) -> float:
    """Rows per second into a table with an index of all its rows, each batch one statement."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE live AS SELECT id, vector::vector(256) AS v FROM embedfleet_vectors.vectors_1"
        )
        conn.execute("SET maintenance_work_mem = '1GB'")
        conn.execute("CREATE INDEX ON live USING hnsw (v vector_cosine_ops)")
        texts = [(f"new {n}", str(vectors[n].tolist())) for n in range(LIVE_ROWS)]
        started = perf_counter()
        for start in range(0, LIVE_ROWS, BATCH_ROWS):
            part = texts[start : start + BATCH_ROWS]
            conn.execute(
                "INSERT INTO live SELECT * FROM unnest(%s::text[], %s::vector[])",
                [[row[0] for row in part], [row[1] for row in part]],
            )
        return LIVE_ROWS / (perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    rows = parser.parse_args().rows
    vectors = embedded(rows + QUERIES)
    with PostgresServer() as server:
        figures = asyncio.run(measured(server.url, vectors[:-QUERIES], vectors[-QUERIES:]))
    write_report("pgvector_index", figures)


if __name__ == "__main__":
    main()
