"""The vector stores side by side, over the same rows in one run.

Of each: rows a second in (writes of `--batch` rows, one after the other), the upkeep after them, the p50 and
p95 of a search for the ten nearest rows, their recall against brute force, the bytes on disk, and the peak
memory of its process with its children. A store runs in a process of its own, in an empty directory; pgvector
with a PostgreSQL of the tests' kind. Searches come after the upkeep, one after the other.

The vectors are random ones of 200 clusters, 384-d (`--vectors clusters`), or those of the bundled static
model, 256-d, of passages of the standard library's sources (`--vectors static`): these are real.

    python benchmarks/stores.py --rows 100000 [--stores chroma,lancedb,pgvector] [--vectors static]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from process_tree import watched_memory
from report import write_report

from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.interactive.local import LocalTextEmbedder
from embedfleet.settings import ModelsSettings, load_settings
from embedfleet.tokenising import tokenised
from embedfleet.vectors.port import StoreDebt, TenantSpace, VectorRows, VectorStore
from embedfleet.vectors.registry import store_kind

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.postgres_server import PostgresServer

STORES = ("chroma", "lancedb", "pgvector")
DIM, CLUSTERS, MOST = 384, 200, 10
PASSAGE_CHARS = 200
TEXT = "A passage of a document, as long as passages of some two hundred characters usually are. " * 2


def clusters(count: int) -> NDArray[np.float32]:
    """float32 (count, DIM) of length 1."""
    rng = np.random.default_rng(15)
    centres = rng.standard_normal((CLUSTERS, DIM), dtype=np.float32)
    vectors = centres[rng.integers(0, CLUSTERS, count)]
    vectors += np.float32(0.7) * rng.standard_normal((count, DIM), dtype=np.float32)
    return unit(vectors)


def source_passages(count: int) -> list[str]:
    """Different passages of the standard library's sources."""
    passages: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
        passages |= dict.fromkeys(
            text[at : at + PASSAGE_CHARS] for at in range(0, len(text) - PASSAGE_CHARS, PASSAGE_CHARS)
        )
        if len(passages) >= count:
            break
    texts = list(passages)[:count]
    if len(texts) < count:
        raise SystemExit(f"only {len(texts):,} passages: ask for fewer rows")
    return texts


async def static(texts: list[str]) -> NDArray[np.float32]:
    """float32 (n, 256) of length 1: the bundled static model's vectors of the texts."""
    settings = ModelsSettings()
    catalogue = Catalogue(settings)
    models = ModelPool(catalogue, settings)
    embedder = LocalTextEmbedder(catalogue, models)
    info = await embedder.info("static")
    found = [
        (await embedder.embed(info, tokenised(texts[at : at + 1_000], info), tenant="bench")).vectors
        for at in range(0, len(texts), 1_000)
    ]
    await embedder.close()
    await models.close()
    return unit(np.concatenate(found))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-9))
    return vectors


@contextmanager
def overrides(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The settings of an empty store of this kind."""
    settings: dict[str, Any] = {"data_dir": str(folder), "vector_store": {"kind": name}}
    if name != "pgvector":
        yield settings
        return
    with PostgresServer() as server:
        settings["vector_store"]["url"] = server.url_of(server.create_database())
        yield settings


async def measure(
    store: VectorStore, vectors: NDArray[np.float32], queries: int, batch: int
) -> dict[str, Any]:
    bench = TenantSpace("bench", "bench", vectors.shape[1])
    stored, asked = vectors[queries:], vectors[:queries]
    await store.ensure_collection(bench)
    started = perf_counter()
    for at in range(0, len(stored), batch):
        part = stored[at : at + batch]
        metadatas = [{"media_id": f"{row // 20}", "job_id": "bench"} for row in range(at, at + len(part))]
        ids = [f"{row:032x}" for row in range(at, at + len(part))]
        await store.upsert(bench, VectorRows(ids, part, metadatas, [TEXT] * len(part)))
    written = perf_counter() - started
    started = perf_counter()
    while await store.debt() != StoreDebt():
        await store.tend()
    tended = perf_counter() - started
    seconds, right = [], 0
    await store.query(bench, asked[0], limit=MOST)  # what it loads at first is not a search's
    for query in asked:
        started = perf_counter()
        hits = await store.query(bench, query, limit=MOST)
        seconds.append(perf_counter() - started)
        nearest = np.argpartition(-(stored @ query), MOST)[:MOST]
        right += len({int(hit.id, 16) for hit in hits} & set(nearest.tolist()))
    await store.close()
    return {
        "rows_per_second": round(len(stored) / written),
        "upkeep_seconds": round(tended, 1),
        "rows_per_second_with_upkeep": round(len(stored) / (written + tended)),
        "search_p50_ms": round(1_000 * float(np.percentile(seconds, 50)), 2),
        "search_p95_ms": round(1_000 * float(np.percentile(seconds, 95)), 2),
        "recall_at_10": round(right / (MOST * queries), 4),
    }


def run_here(name: str, vectors_file: Path, queries: int, batch: int) -> dict[str, Any]:
    vectors = np.load(vectors_file, mmap_mode="r")
    with tempfile.TemporaryDirectory() as scratch, overrides(name, Path(scratch)) as given:
        settings = load_settings(environ={}, overrides=given)

        async def run() -> dict[str, Any]:
            store = await store_kind(name).open_store(settings)
            return await measure(store, vectors, queries, batch)

        with watched_memory(psutil.Process()) as peak:
            measured = asyncio.run(run())
        places = [Path(scratch)]
        if name == "pgvector":
            socket = str(given["vector_store"]["url"]).partition("host=")[2]
            places.append(Path(socket) / "data" / "base")
        disk = sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())
    return measured | {"disk_mb": round(disk / 1e6), "peak_memory_mb": peak.tree_mb}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--vectors", choices=("clusters", "static"), default="clusters")
    parser.add_argument("--stores", default=",".join(STORES))
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.store:
        print(json.dumps(run_here(given.store, given.file, given.queries, given.batch)))
        return
    count = given.rows + given.queries
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "vectors.npy"
        vectors = (
            clusters(count) if given.vectors == "clusters" else asyncio.run(static(source_passages(count)))
        )
        dim = vectors.shape[1]
        # The clusters are drawn by chance; passages of one file lie together, and queries come from all.
        np.save(file, vectors[np.random.default_rng(3).permutation(count)])
        del vectors
        for name in given.stores.split(","):
            script = [sys.executable, __file__, "--store", name, "--file", str(file)]
            more = ["--queries", str(given.queries), "--batch", str(given.batch)]
            figures[name] = json.loads(
                subprocess.run(
                    [*script, *more], stdout=subprocess.PIPE, check=True, text=True
                ).stdout.splitlines()[-1]
            )
            print(name, figures[name], file=sys.stderr)
    write_report(
        f"stores_{given.vectors}_{given.rows}",
        {"rows": given.rows, "dim": dim, "vectors": given.vectors, "batch_rows": given.batch} | figures,
    )


if __name__ == "__main__":
    main()
