"""Figure S7: memory does not grow with what has been ingested, nor with one document's size.

    python benchmarks/memory.py [--quick] [--chroma]

Growth: documents go through the whole pipeline (SQLite on disk, stub model) into a store that keeps nothing;
the process's resident size when 10,000 chunks are stored is compared with that at 100,000. Large: one
200 MB text file is parsed, submitted and processed in a process of its own; peak resident size, with and
without the parser's child.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil
from corpus import documents, job_requests
from process_tree import watched_memory
from report import write_report

from embedfleet.bootstrap import OwnerSystem, open_owner
from embedfleet.ingest import Ingest, IngestOptions, LocalIntake
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.queue_schemas import ChunkingConfig, JobRequest
from embedfleet.settings import load_settings
from embedfleet.vectors.null import NullVectorStore

SUBMIT_TOGETHER = 20


async def growth(first: int, last: int, directory: Path) -> dict[str, Any]:
    """Resident size (MB) at `first` and `last` stored chunks, and the highest in between."""
    settings = load_settings(
        environ={}, overrides={"data_dir": str(directory), "models": {"default": "stub"}}
    )
    stop = asyncio.Event()
    samples: list[tuple[int, float]] = []
    async with (
        open_owner(settings, purpose="benchmark", store=NullVectorStore()) as system,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(system.orchestrator.run(stop))
        stored = 0
        waiting: list[JobRequest] = []
        for request in job_requests(documents(10**12), ChunkingConfig(chunk_size=800, overlap=0)):
            waiting.append(request)
            if len(waiting) < SUBMIT_TOGETHER:
                continue
            stored += await _through(system, waiting)
            waiting.clear()
            samples.append((stored, _resident_mb()))
            if stored >= last:
                break
        stop.set()
    at_first = next(mb for chunks, mb in samples if chunks >= first)
    later = [mb for chunks, mb in samples if chunks >= first]
    return {
        "chunks_first": first,
        "chunks_last": samples[-1][0],
        "resident_first_mb": round(at_first, 1),
        "resident_last_mb": round(samples[-1][1], 1),
        "resident_highest_mb": round(max(later), 1),
        "growth_percent": round(100 * (samples[-1][1] / at_first - 1), 2),
        "target_percent": 10,
    }


async def _through(system: OwnerSystem, requests: list[JobRequest]) -> int:
    job_ids = await system.jobs.create_jobs(requests)
    return sum([(await system.jobs.wait(job_id)).progress.chunks_stored for job_id in job_ids])


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss / 1e6)


def large_document(megabytes: int, directory: Path, *, store: str) -> dict[str, Any]:
    """Peak resident size (MB) of a process, and of it with its children, over one file of this size."""
    file = directory / "large.txt"
    with file.open("w", encoding="utf-8") as out:
        for _, text in documents(megabytes * 1_000_000):
            out.write(text)
    command = [sys.executable, __file__, "--ingest", str(file), "--store", store]
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True)
    started = perf_counter()
    with watched_memory(process) as peak:
        output, _ = process.communicate()
    return {
        "file_mb": round(file.stat().st_size / 1e6, 1),
        "store": store,
        "chunks": int(output),
        "seconds": round(perf_counter() - started, 1),
        "peak_tree_mb": round(peak.tree_mb, 1),
        "peak_process_mb": round(peak.process_mb, 1),
        "target_mb": 1000,
    }


async def ingest_file(file: Path, store: str) -> int:
    """Parse, submit and process one file, as `embedfleet ingest` does; returns the chunks stored."""
    settings = load_settings(
        environ={}, overrides={"data_dir": str(file.parent / store), "models": {"default": "stub"}}
    )
    kept = NullVectorStore() if store == "null" else None
    options = IngestOptions(tenant="bench")
    stop = asyncio.Event()
    async with (
        open_owner(settings, purpose="benchmark", store=kept) as system,
        ParserSandbox(settings.parsing) as parser,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(system.orchestrator.run(stop))
        stored = 0
        async for outcome in Ingest(LocalIntake(system.jobs, parser, options.tenant), options).submit([file]):
            assert outcome.job_id is not None, outcome.error
            stored += (await system.jobs.wait(outcome.job_id)).progress.chunks_stored
        stop.set()
    return stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--chroma", action="store_true", help="the large document into Chroma as well")
    parser.add_argument("--ingest", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", default="null", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ingest:
        print(asyncio.run(ingest_file(arguments.ingest, arguments.store)))
        return
    scale = 10 if arguments.quick else 1
    with tempfile.TemporaryDirectory() as scratch:
        figures = {
            "growth": asyncio.run(growth(10_000 // scale, 100_000 // scale, Path(scratch, "growth"))),
            "large_document": large_document(200 // scale, Path(scratch), store="null"),
        }
        if arguments.chroma:
            figures["large_document_chroma"] = large_document(200 // scale, Path(scratch), store="chroma")
    write_report("memory", figures)


if __name__ == "__main__":
    main()
