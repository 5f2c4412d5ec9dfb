"""Figure S2: the whole pipeline, documents to stored vectors, beside bare Chroma on the same rows.

    python benchmarks/pipeline.py [--chunks 4000] [--model static]

Embedded mode with durable bookkeeping (SQLite `synchronous=full`), (a) with documents and metadata in Chroma,
(b) with `store_documents: false`. Bare Chroma: `collection.upsert` of the same texts, vectors and metadata,
nothing else. Each round runs all of them, in turn; medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import chromadb
import numpy as np
from corpus import documents, job_requests
from report import write_report

from embedfleet.bootstrap import open_owner
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.queue_schemas import ChunkingConfig, JobRequest
from embedfleet.settings import load_settings
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import VectorStore

CHUNKING = ChunkingConfig(chunk_size=1000, overlap=0)
CHARS_PER_CHUNK = 800
BARE_BATCH = 512


def make_requests(chunks: int) -> list[JobRequest]:
    return list(job_requests(documents(chunks * CHARS_PER_CHUNK), CHUNKING))


async def pipeline(
    requests: list[JobRequest],
    model: str,
    directory: Path,
    *,
    documents_in_store: bool,
    store: VectorStore | None,
) -> tuple[float, int]:
    """(seconds, chunks) from the first submission to the last completion; model and tokeniser are warm."""
    settings = load_settings(
        environ={},
        overrides={
            "data_dir": str(directory),
            "models": {"default": model},
            "vector_store": {"store_documents": documents_in_store},
        },
    )
    stop = asyncio.Event()
    async with (
        open_owner(settings, purpose="benchmark", store=store) as system,
        asyncio.TaskGroup() as tasks,
    ):
        runner = await system.models.get(model)
        # As warm as a service is: the tokeniser has passed its self-check.
        await asyncio.to_thread(lambda: load_tokenizer(runner.info.tokenizer_file).concatenable)
        tasks.create_task(system.orchestrator.run(stop))
        started = perf_counter()
        job_ids = await system.jobs.create_jobs(requests)
        chunks = 0
        for job_id in job_ids:
            chunks += (await system.jobs.wait(job_id)).progress.chunks_stored
        seconds = perf_counter() - started
        stop.set()
    return seconds, chunks


def bare_chroma(rows: dict[str, list[Any]], directory: Path, *, documents_in_store: bool) -> float:
    """Seconds to upsert the rows."""
    client = chromadb.PersistentClient(str(directory), chromadb.Settings(anonymized_telemetry=False))
    collection = client.create_collection("bare", configuration={"hnsw": {"space": "cosine"}})
    started = perf_counter()
    for start in range(0, len(rows["ids"]), BARE_BATCH):
        piece = slice(start, start + BARE_BATCH)
        collection.upsert(
            ids=rows["ids"][piece],
            embeddings=rows["embeddings"][piece],
            metadatas=rows["metadatas"][piece],
            documents=rows["documents"][piece] if documents_in_store else None,
        )
    return perf_counter() - started


def stored_rows(directory: Path) -> dict[str, list[Any]]:
    """What the pipeline stored, to be stored again by bare Chroma."""
    client = chromadb.PersistentClient(
        str(directory / "chroma"), chromadb.Settings(anonymized_telemetry=False)
    )
    (collection,) = client.list_collections()
    got = collection.get(include=["embeddings", "metadatas", "documents"])
    return {
        "ids": got["ids"],
        "embeddings": list(np.asarray(got["embeddings"], dtype=np.float32)),
        "metadatas": got["metadatas"],
        "documents": got["documents"],
    }


def one_round(requests: list[JobRequest], model: str) -> dict[str, float]:
    """Chunks per second of each contestant."""
    with tempfile.TemporaryDirectory() as scratch:
        where = Path(scratch)

        def run(name: str, *, documents_in_store: bool, store: VectorStore | None) -> tuple[float, int]:
            run_of = pipeline(
                requests, model, where / name, documents_in_store=documents_in_store, store=store
            )
            return asyncio.run(run_of)

        with_documents, chunks = run("a", documents_in_store=True, store=None)
        rows = stored_rows(where / "a")
        without, _ = run("b", documents_in_store=False, store=None)
        null, _ = run("n", documents_in_store=False, store=NullVectorStore())
        seconds = {
            "pipeline, documents in Chroma": with_documents,
            "pipeline, store_documents: false": without,
            "pipeline, null store": null,
            "bare Chroma, with documents": bare_chroma(rows, where / "c", documents_in_store=True),
            "bare Chroma, without documents": bare_chroma(rows, where / "d", documents_in_store=False),
        }
        return {name: chunks / value for name, value in seconds.items()} | {"chunks": chunks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="static")
    arguments = parser.parse_args()
    requests = make_requests(arguments.chunks)
    rounds = [one_round(requests, arguments.model) for _ in range(arguments.rounds)]
    figures: dict[str, Any] = {"model": arguments.model, "rounds": len(rounds), "documents": len(requests)}
    for name in rounds[0]:
        values = sorted(one[name] for one in rounds)
        figures[name] = {
            "median": round(statistics.median(values), 1),
            "min": round(values[0], 1),
            "max": round(values[-1], 1),
        }
    ratio = [r["pipeline, documents in Chroma"] / r["bare Chroma, with documents"] for r in rounds]
    figures["ratio to bare Chroma, with documents"] = round(statistics.median(ratio), 3)
    write_report("pipeline", figures)


if __name__ == "__main__":
    main()
