"""What the vector store costs over Chroma's own calls: writing, with and without texts, and reading.

Texts are passages of the standard library's sources; vectors are random unit ones, 384-d, as the cost of
an upsert does not depend on their values. Each figure is the median of `--rounds`, every round into new
directories, the contenders in turn so that a slow moment meets them all.

    python benchmarks/vector_store.py --rows 1536 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from report import write_report

from embedfleet.storage.chroma import ChromaVectorStore
from embedfleet.storage.vector_store import VectorRows

DIM = 384
PASSAGE_CHARS = 1000
BATCH_ROWS = 512
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


async def store_seconds(directory: Path, work: Sequence[VectorRows]) -> dict[str, float]:
    """The same rows through the store: written, written again, looked up, scanned and queried."""
    seconds: dict[str, float] = {}
    store = await ChromaVectorStore.open(directory)
    await store.ensure_collection("bench", space="bench", dim=DIM)
    for name in ("write", "rewrite"):
        started = perf_counter()
        for rows in work:
            await store.upsert("bench", rows)
        seconds[name] = perf_counter() - started

    started = perf_counter()
    for rows in work:
        await store.existing("bench", rows.ids)
    seconds["existing"] = perf_counter() - started

    started = perf_counter()
    async for _ in store.scan("bench"):
        pass
    seconds["scan"] = perf_counter() - started

    queries = work[0].vectors[:100]
    started = perf_counter()
    for vector in queries:
        await store.query("bench", vector, space="bench", limit=10)
    seconds["query"] = (perf_counter() - started) / len(queries)
    await store.close()
    return seconds


def measure(count: int, rounds: int, *, documents: bool) -> dict[str, Any]:
    work = batches(count, documents=documents)
    chroma: list[dict[str, float]] = []
    store: list[dict[str, float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as scratch:
            chroma.append(chroma_seconds(Path(scratch, "chroma"), work))
            store.append(asyncio.run(store_seconds(Path(scratch, "store"), work)))

    def per_second(measured: list[dict[str, float]], name: str) -> float:
        return round(count / statistics.median(seconds[name] for seconds in measured), 1)

    return {
        "chroma_write_rows_per_second": per_second(chroma, "write"),
        "store_write_rows_per_second": per_second(store, "write"),
        "chroma_rewrite_rows_per_second": per_second(chroma, "rewrite"),
        "store_rewrite_rows_per_second": per_second(store, "rewrite"),
        "store_existing_ids_per_second": per_second(store, "existing"),
        "store_scan_rows_per_second": per_second(store, "scan"),
        "store_query_ms": round(1000 * statistics.median(seconds["query"] for seconds in store), 3),
        "chroma_write_seconds_each_round": [round(seconds["write"], 3) for seconds in chroma],
        "store_write_seconds_each_round": [round(seconds["write"], 3) for seconds in store],
    }


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
