"""What the vector stores cost over Chroma's own calls: writing, with and without texts, and reading.

Three contenders: Chroma in process as its documentation uses it, the embedded store, and the store on a
Chroma server that runs on the same machine, by one writer and by several.

Texts are passages of the standard library's sources; vectors are random unit ones, 384-d, as the cost of
an upsert does not depend on their values. Each figure is the median of `--rounds`, every round into new
directories, the contenders in turn so that a slow moment meets them all.

    python benchmarks/vector_store.py --rows 1536 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from report import write_report

from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.server import ChromaServerStore
from embedfleet.vectors.port import TenantSpace, VectorRows, VectorStore

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.chroma_server import ChromaServer

DIM = 384
PASSAGE_CHARS = 1000
BATCH_ROWS = 512
WRITERS = 4
BENCH = TenantSpace("bench", "bench", DIM)
SHARED = TenantSpace("shared", "bench", DIM)
METADATA_KEYS = ("job_id", "media_id", "document_id", "heading", "start", "end", "generation")


def passages(count: int) -> list[str]:
    """The first `count` stretches of the standard library's modules."""
    found: list[str] = []
    for module in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = module.read_text(encoding="utf-8", errors="replace")
        found += [text[start : start + PASSAGE_CHARS] for start in range(0, len(text), PASSAGE_CHARS)]
    if len(found) < count:
        raise SystemExit(f"only {len(found)} passages: ask for fewer rows")
    return found[:count]


def batches(count: int, *, documents: bool) -> list[VectorRows]:
    vectors = np.random.default_rng(0).standard_normal((count, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = passages(count)
    return [
        VectorRows(
            [f"{row:032x}" for row in range(start, end)],
            vectors[start:end],
            [dict.fromkeys(METADATA_KEYS, f"value {row}") for row in range(start, end)],
            texts[start:end] if documents else None,
        )
        for start in range(0, count, BATCH_ROWS)
        for end in [min(start + BATCH_ROWS, count)]
    ]


def chroma_seconds(directory: Path, work: Sequence[VectorRows]) -> dict[str, float]:
    """Chroma as its own documentation uses it: the rows written, and written again."""
    import chromadb

    with chromadb.PersistentClient(directory, chromadb.Settings(anonymized_telemetry=False)) as client:
        collection = client.create_collection(
            "bench", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        seconds: dict[str, float] = {}
        for name in ("write", "rewrite"):
            started = perf_counter()
            for rows in work:
                collection.upsert(
                    ids=list(rows.ids),
                    embeddings=rows.vectors,
                    metadatas=list(rows.metadatas),
                    documents=None if rows.documents is None else list(rows.documents),
                )
            seconds[name] = perf_counter() - started
        return seconds


async def embedded_seconds(directory: Path, work: Sequence[VectorRows]) -> dict[str, float]:
    return await store_seconds(await ChromaVectorStore.open(directory), work)


async def server_seconds(directory: Path, work: Sequence[VectorRows]) -> dict[str, float]:
    with ChromaServer(directory) as server:
        seconds = await store_seconds(await ChromaServerStore.open(server.url), work)
        seconds["shared_write"] = await shared_write_seconds(server.url, work)
    return seconds


async def store_seconds(store: VectorStore, work: Sequence[VectorRows]) -> dict[str, float]:
    """The same rows through a store: written, written again, looked up, scanned and queried. Closes it."""
    seconds: dict[str, float] = {}
    await store.ensure_collection(BENCH)
    for name in ("write", "rewrite"):
        started = perf_counter()
        for rows in work:
            await store.upsert(BENCH, rows)
        seconds[name] = perf_counter() - started

    started = perf_counter()
    for rows in work:
        await store.vectors(BENCH, rows.ids)
    seconds["vectors"] = perf_counter() - started

    started = perf_counter()
    async for _ in store.scan(BENCH):
        pass
    seconds["scan"] = perf_counter() - started

    queries = work[0].vectors[:100]
    started = perf_counter()
    for vector in queries:
        await store.query(BENCH, vector, limit=10)
    seconds["query"] = (perf_counter() - started) / len(queries)
    await store.close()
    return seconds


async def shared_write_seconds(url: str, work: Sequence[VectorRows]) -> float:
    """Into a new collection, by writers that share the batches."""
    store = await ChromaServerStore.open(url, connections=WRITERS)
    await store.ensure_collection(SHARED)
    left = iter(work)

    async def write(batches: Iterable[VectorRows]) -> None:
        for rows in batches:
            await store.upsert(SHARED, rows)

    started = perf_counter()
    await asyncio.gather(*(write(left) for _ in range(WRITERS)))
    seconds = perf_counter() - started
    await store.close()
    return seconds


def measure(count: int, rounds: int, *, documents: bool) -> dict[str, Any]:
    work = batches(count, documents=documents)
    measured: dict[str, list[dict[str, float]]] = {"chroma": [], "store": [], "server": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            measured["chroma"].append(chroma_seconds(Path(scratch, "chroma"), work))
            measured["store"].append(asyncio.run(embedded_seconds(Path(scratch, "store"), work)))
            measured["server"].append(asyncio.run(server_seconds(Path(scratch, "server"), work)))

    def per_second(contender: str, name: str) -> float:
        return round(count / statistics.median(seconds[name] for seconds in measured[contender]), 1)

    figures: dict[str, Any] = {}
    for contender, each in measured.items():
        figures[f"{contender}_write_rows_per_second"] = per_second(contender, "write")
        figures[f"{contender}_rewrite_rows_per_second"] = per_second(contender, "rewrite")
        figures[f"{contender}_write_seconds_each_round"] = [round(seconds["write"], 3) for seconds in each]
    for contender in ("store", "server"):
        figures[f"{contender}_vectors_read_per_second"] = per_second(contender, "vectors")
        figures[f"{contender}_scan_rows_per_second"] = per_second(contender, "scan")
        query_seconds = statistics.median(seconds["query"] for seconds in measured[contender])
        figures[f"{contender}_query_ms"] = round(1000 * query_seconds, 3)
    figures[f"server_write_by_{WRITERS}_rows_per_second"] = per_second("server", "shared_write")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    write_report(
        "vector_store",
        {
            "rows": given.rows,
            "rounds": given.rounds,
            "dim": DIM,
            "batch_rows": BATCH_ROWS,
            "metadata_keys": len(METADATA_KEYS),
            "with_documents": measure(given.rows, given.rounds, documents=True),
            "without_documents": measure(given.rows, given.rounds, documents=False),
        },
    )


if __name__ == "__main__":
    main()
