"""Figures S9 and S10: many small documents, such as chats, notes and tickets.

    python benchmarks/small_documents.py [--rounds 3] [--only contest] [--short]

- `contest`: 10,000 documents of 300 characters and 10,000 of 2,000 from memory to vectors in an embedded
  Chroma, with the static model. embedfleet has its defaults; langchain has its SQL record manager;
  llama_index persists its docstore. Runs, turns and ratios are those of `peers.py`.
- `linearity`: embedfleet alone, with 2,500, 5,000 and 10,000 documents of 300 characters.
- `commands`: `embedfleet ingest` of a folder of 2,000 and of 5,000 notes of 200 characters, with the stub
  model. Processor time is that of the command and its children, from its start to its end.
- `fleet`: Redis, PostgreSQL (without fsync: that of the tests) and worker processes on this machine, with the
  stub model and a store that keeps nothing, beside embedfleet embedded in the same round.

The documents are slices of library sources, no two alike. Processor times are given for a contestant's own
process and for its children. embedfleet's Chroma is a child; the peers have theirs in their own process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from contest import OURS, one_run, ratio, read_store, spread
from contestants import Documents
from contestants.embedfleet_pipeline import SUBMITTED_TOGETHER
from corpus import job_requests, slices
from process_tree import cpu_seconds_of_children
from report import write_report
from small_contest import CHUNK_CHARS, MOST_GROWTH, SHORT_CHARS, contest, linearity, script_of
from storeless_fleet import storeless_fleet

from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.paging import pages
from embedfleet.queue_schemas import ChunkingConfig
from support.command import Command

NOTE_CHARS = 200
CPU_MS_OF_FILE = 5.0
FORMER_EMBEDDED_PER_SECOND = 52
"""What embedfleet did when each document had 37 SQL statements of its own. A fleet must do twice that."""


def commands(files: int, rounds: int) -> dict[str, Any]:
    """Two fifths of the files, and all. A further file is one beyond the two fifths: it bears no start."""
    few = files * 2 // 5
    cpu_ms = [(1e3 * ingest_seconds(few), 1e3 * ingest_seconds(files)) for _ in range(rounds)]
    further = [(most - least) / (files - few) for least, most in cpu_ms]
    first = [least / few for least, _ in cpu_ms]
    each = [most / files for _, most in cpu_ms]
    growth = ratio(further, first)
    return {
        f"{few} files": {"cpu_ms_per_file_with_children": spread(first)},
        f"{files} files": {"cpu_ms_per_file_with_children": spread(each)},
        "cpu_ms_per_further_file": spread(further),
        "cpu_growth": growth,
        "targets": {
            f"cpu_ms_per_file_with_children <= {CPU_MS_OF_FILE}": statistics.median(each) <= CPU_MS_OF_FILE,
            f"cpu_growth <= {MOST_GROWTH}": growth <= MOST_GROWTH,
        },
    }


def ingest_seconds(files: int) -> float:
    """Processor time of `embedfleet ingest` over notes, each a file of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        notes = Path(scratch, "notes")
        notes.mkdir()
        for name, text in slices(files, NOTE_CHARS):
            (notes / f"{name}.txt").write_text(text, encoding="utf-8")
        command = Command(Path(scratch))
        before = cpu_seconds_of_children()
        process = command.start("ingest", notes)
        _, errors = process.communicate()
        used = cpu_seconds_of_children() - before
        if process.returncode:
            raise SystemExit(f"embedfleet ingest: exit code {process.returncode}: {errors[-500:]}")
        if (stored := read_store(command.data_dir / "chroma").vectors) != files:
            raise SystemExit(f"embedfleet ingest: {files} files, {stored} vectors")
    return used


def fleet(documents: int, rounds: int) -> dict[str, Any]:
    """A fleet of the default size beside embedfleet embedded."""
    texts = list(slices(documents, SHORT_CHARS))
    fleets, embedded = [], []
    for _ in range(rounds):
        fleets.append(documents / asyncio.run(fleet_seconds(texts)))
        embedded.append(documents / one_run(script_of(documents, SHORT_CHARS), OURS)["seconds"])
    wanted = 2 * FORMER_EMBEDDED_PER_SECOND
    return {
        "documents": documents,
        "documents_per_second": spread(fleets),
        "embedded_documents_per_second": spread(embedded),
        "times_as_fast_as_embedded": ratio(fleets, embedded),
        "targets": {f"documents_per_second >= {wanted}": statistics.median(fleets) >= wanted},
    }


async def fleet_seconds(texts: Documents) -> float:
    """From the first submission to the last completion; one document before has warmed all stages up."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        async with storeless_fleet(Path(scratch), {"models": {"default": "stub"}}) as servers:
            await stored_by(servers.jobs, [("warm-up", "A first document.")])
            started = perf_counter()
            chunks = await stored_by(servers.jobs, texts)
            seconds = perf_counter() - started
    if chunks != len(texts):
        raise SystemExit(f"fleet: {len(texts)} documents of one chunk each, {chunks} chunks stored")
    return seconds


async def stored_by(jobs: EmbeddingJobManager, texts: Documents) -> int:
    """Chunks that were stored when all documents have been submitted and are done."""
    chunking = ChunkingConfig(chunk_size=CHUNK_CHARS, overlap=0)
    job_ids: list[str] = []
    for requests in pages(list(job_requests(texts, chunking)), SUBMITTED_TOGETHER):
        job_ids += await jobs.create_jobs(requests)
    return sum([info.progress.chunks_stored async for info in jobs.as_completed(job_ids)])


Part = Callable[[int, int], dict[str, Any]]
PARTS: Mapping[str, tuple[Part, int, int]] = {
    "contest": (contest, 10_000, 200),
    "linearity": (linearity, 10_000, 400),
    "commands": (commands, 5_000, 100),
    "fleet": (fleet, 5_000, 200),
}
"""By name: the part, how many documents it has, and how many with `--short`."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, help="one part; its report has the part in its name")
    parser.add_argument("--short", action="store_true", help="one round, few documents: proves that it runs")
    arguments = parser.parse_args()
    rounds = 1 if arguments.short else arguments.rounds
    figures: dict[str, Any] = {"rounds": rounds, "chunk_chars_most": CHUNK_CHARS}
    for name in [arguments.only] if arguments.only else PARTS:
        part, documents, few = PARTS[name]
        print(f"{name} ...", file=sys.stderr)
        figures[name] = part(few if arguments.short else documents, rounds)
        figures[name]["load_average"] = round(os.getloadavg()[0], 1)
    write_report("small_documents" + (f"_{arguments.only}" if arguments.only else ""), figures)


if __name__ == "__main__":
    main()
