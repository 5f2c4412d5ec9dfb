"""How exact a search with a filter is, and how long it takes, by the share of passages that a filter allows.

The vectors are of 200 clusters, 384-d. One filter has nothing to do with meaning (`evenly`): what it allows
is spread over all clusters. The other allows whole clusters, and no query comes from them (`apart`): what is
near to a query is not allowed. That is where a filtered index loses hits.

Contenders, over the same rows: our search with its usual limit for exact comparison, our search by the index
alone (`exact_scan_rows` 0), and Chroma's own `where`. Recall is of the 10 nearest by brute force. Our
searches look into SQL too, and return texts; Chroma's query returns ids. Each figure is of all queries, asked
one after the other.

    python benchmarks/filters.py --rows 100000 --queries 20
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import write_report

from embedfleet.document_filter import PassageFilter
from embedfleet.records.collections import Collection
from embedfleet.searching.nearest_passages import NearestPassages
from embedfleet.settings.services import VectorStoreSettings
from embedfleet.sql.database import Database
from embedfleet.vectors.chroma.embedded import ChromaVectorStore

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.passages import Document, store_live

DIM, CLUSTERS, MOST = 384, 200, 10
SHARES = (0.5, 0.1, 0.01, 0.001)
TENANT = "bench"
# Documents that one transaction and one call of the store write.
AT_ONCE = 2_000


@dataclass(frozen=True)
class Rows:
    """`vectors`: float32 (n, DIM), of length 1. `evenly` and `apart`: float64 (n,), 0 to 1, are compared.

    `queries`: float32 (n, DIM), near to passages whose `apart` is at least a half.
    """

    vectors: NDArray[np.float32]
    evenly: NDArray[np.float64]
    apart: NDArray[np.float64]
    queries: NDArray[np.float32]

    @classmethod
    def of(cls, count: int, queries: int) -> Rows:
        rng = np.random.default_rng(15)
        centres = rng.standard_normal((CLUSTERS, DIM))
        cluster = rng.integers(0, CLUSTERS, count)
        vectors = unit(centres[cluster] + 0.7 * rng.standard_normal((count, DIM)))
        # By cluster, and within a cluster by chance: the smallest share is one part of one cluster.
        apart = np.empty(count)
        apart[np.lexsort((rng.random(count), cluster))] = (np.arange(count) + 0.5) / count
        evenly = (rng.permutation(count) + 0.5) / count
        near = rng.choice(np.flatnonzero(apart >= 0.5), queries)
        return cls(vectors, evenly, apart, unit(vectors[near] + 0.02 * rng.standard_normal((queries, DIM))))

    def documents(self) -> list[Document]:
        return [
            Document(
                f"{row:08}",
                f"Passage {row}.",
                {"evenly": float(self.evenly[row]), "apart": float(self.apart[row])},
            )
            for row in range(len(self.vectors))
        ]

    def nearest(self, query: NDArray[np.float32], allowed: NDArray[np.intp]) -> set[int]:
        """By brute force."""
        return set(allowed[np.argsort(-(self.vectors[allowed] @ query))[:MOST]].tolist())


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True)
class Answer:
    """The rows that were found, and for our searches whether the answer says that it is exact."""

    rows: Sequence[int]
    exact: bool | None
    seconds: float


def figures(rows: Rows, allowed: NDArray[np.intp], answers: Sequence[Answer]) -> dict[str, Any]:
    recalls = []
    for query, answer in zip(rows.queries, answers, strict=True):
        expected = rows.nearest(query, allowed)
        recalls.append(len(expected & set(answer.rows)) / len(expected))
    milliseconds = sorted(1000 * answer.seconds for answer in answers)
    exact = [answer.exact for answer in answers]
    return {
        "recall_percent": round(100 * statistics.fmean(recalls), 1),
        "worst_recall_percent": round(100 * min(recalls), 1),
        "exact_answers_percent": None if None in exact else round(100 * sum(map(bool, exact)) / len(exact)),
        "ms_median": round(statistics.median(milliseconds), 2),
        "ms_most": round(milliseconds[-1], 2),
    }


Ask = Callable[[NDArray[np.float32], dict[str, Any] | None], Answer]


def by_filter(rows: Rows, ask: Ask) -> dict[str, Any]:
    """The figures of a contender: without a filter, and for each filter and share."""
    everything = np.arange(len(rows.vectors))
    ask(rows.queries[0], None)  # opens the index
    found = {"no filter": figures(rows, everything, [ask(query, None) for query in rows.queries])}
    for name, values in (("evenly", rows.evenly), ("apart", rows.apart)):
        for share in SHARES:
            where = {name: {"$lt": share}}
            answers = [ask(query, where) for query in rows.queries]
            found[f"{name} {100 * share:g}%"] = figures(rows, np.flatnonzero(values < share), answers)
    return found


async def fill(database: Database, store: ChromaVectorStore, rows: Rows) -> Collection:
    made = rows.documents()
    for first in range(0, len(made), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        collection = await store_live(database, store, TENANT, made[part], rows.vectors[part])
    return collection


async def ours(directory: Path, rows: Rows) -> dict[str, Any]:
    database = Database(f"sqlite:///{directory / 'filters.db'}", synchronous="normal")
    await database.open()
    store = await ChromaVectorStore.open(directory / "chroma")
    collection = await fill(database, store, rows)
    usual = VectorStoreSettings().exact_scan_rows
    found: dict[str, Any] = {}
    for name, exact_scan_rows in ((f"embedfleet, exact up to {usual:,}", usual), ("embedfleet, by index", 0)):
        passages = NearestPassages(database, store, exact_scan_rows=exact_scan_rows)
        found[name] = await asyncio.to_thread(
            by_filter, rows, asker(passages, collection, asyncio.get_running_loop())
        )
    await store.close()
    await database.close()
    return found


def asker(passages: NearestPassages, collection: Collection, loop: asyncio.AbstractEventLoop) -> Ask:
    def ask(query: NDArray[np.float32], where: dict[str, Any] | None) -> Answer:
        started = perf_counter()
        finding = passages.find(collection, query, PassageFilter(where=where), most=MOST)
        found = asyncio.run_coroutine_threadsafe(finding, loop).result()
        seconds = perf_counter() - started
        return Answer([int(hit.media_id) for hit in found.hits], found.exact, seconds)

    return ask


def chromas(directory: Path, rows: Rows) -> dict[str, Any]:
    """Chroma's own filter, over the rows that our store wrote."""
    import chromadb

    row_of = {one.chunk_id: row for row, one in enumerate(rows.documents())}
    settings = chromadb.Settings(anonymized_telemetry=False)
    with chromadb.PersistentClient(directory / "chroma", settings) as client:
        (collection,) = client.list_collections()

        def ask(query: NDArray[np.float32], where: dict[str, Any] | None) -> Answer:
            started = perf_counter()
            answer = collection.query(
                query_embeddings=[query], n_results=MOST, where=where, include=["distances"]
            )
            return Answer([row_of[one] for one in answer["ids"][0]], None, perf_counter() - started)

        return by_filter(rows, ask)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--short", action="store_true", help="2,000 rows and 3 queries")
    given = parser.parse_args()
    count, queries = (2_000, 3) if given.short else (given.rows, given.queries)
    rows = Rows.of(count, queries)
    with tempfile.TemporaryDirectory() as scratch:
        found = asyncio.run(ours(Path(scratch), rows))
        found["chroma, where"] = chromas(Path(scratch), rows)
    write_report("filters", {"rows": count, "dim": DIM, "queries": queries, "nearest": MOST, **found})


if __name__ == "__main__":
    main()
