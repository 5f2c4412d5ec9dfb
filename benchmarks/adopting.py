"""Taking over a collection of another system, beside embedding its texts again.

    python benchmarks/adopting.py [--rows 100000] [--model minilm] [--rounds 3] [--kills 5] [--short]

- `embed`: documents of ten passages go through embedfleet, embedded, from the first submission to the last
  completion. Their texts and vectors then become a directory of Chroma as tldw_server writes it.
- `export`: `embedfleet export` of them, as a command.
- `adopt`: `embedfleet adopt` of that directory into an empty data directory, as a command; so its start, the
  copy of the source, and a sample of 100 rows that is embedded again are in its seconds.
- `killed`: the same, killed with SIGKILL each time that a further share of the documents has come over, and
  at last run to its end.

Every passage of `adopt` and of `killed` is compared. A vector counts as changed if a value differs from that
of the source by more than rounding: Chroma scales a vector to length 1 when it is written.

The texts are words of library sources. Seconds are those of a wall clock, so nothing else should run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from contest import spread
from corpus import documents, job_requests
from numpy.typing import NDArray
from report import write_report

from embedfleet.paging import pages
from embedfleet.vectors.chroma.clients import open_directory

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.command import Command, Result, finish
from support.system import ONE_EACH, make_settings, running

ROWS_PER_DOCUMENT = 10
# More than half of a chunk of `ONE_EACH`, so that no chunk takes in two passages.
PASSAGE_CHARS = 260
SUBMITTED_TOGETHER = 500
WRITTEN_TOGETHER = 5_000
ROUNDING = 1e-6


def passages() -> Iterator[str]:
    """Texts of about `PASSAGE_CHARS` characters without a line break, no two alike."""
    words: list[str] = []
    length = 0
    for _, text in documents(10**12):
        for word in text.split():
            words.append(word[:100])  # a line of data in a source may have thousands of characters
            length += len(words[-1]) + 1
            if length > PASSAGE_CHARS:
                yield " ".join(words)
                words, length = [], 0
    raise AssertionError("the sources come again and again")


async def embed(folder: Path, rows: int, model: str) -> float:
    """Seconds until documents of this many passages are searchable."""
    settings = make_settings(folder, models={"default": model})
    source = passages()
    texts = [
        (str(number), "\n\n".join(islice(source, ROWS_PER_DOCUMENT)))
        for number in range(rows // ROWS_PER_DOCUMENT)
    ]
    async with running(settings) as fleet:
        await fleet.ingest("warm-up", "A first document.", user_id="warm-up")
        started = perf_counter()
        job_ids: list[str] = []
        for requests in pages(list(job_requests(texts, ONE_EACH)), SUBMITTED_TOGETHER):
            job_ids += await fleet.jobs.create_jobs(requests)
        stored = sum([info.progress.chunks_stored async for info in fleet.jobs.as_completed(job_ids)])
        seconds = perf_counter() - started
        await fleet.idle()
    if stored != rows:
        raise SystemExit(f"{rows} passages were submitted, {stored} were stored")
    return seconds


class Passages:
    """The passages of an export in the order of documents and passages. `vectors`: float32 (rows, dim)."""

    def __init__(self, folder: Path) -> None:
        table = pq.read_table(folder / "passages").sort_by(
            [("media_id", "ascending"), ("chunk_index", "ascending")]
        )
        self.media_ids: list[str] = table["media_id"].to_pylist()
        self.chunk_ids: list[str] = table["chunk_id"].to_pylist()
        self.texts: list[str] = table["text"].to_pylist()
        flat = table["vector"].combine_chunks().flatten().to_numpy()
        self.vectors: NDArray[np.float32] = flat.reshape(len(self.texts), -1)

    def changed(self, other: Passages) -> int:
        """How many vectors differ from those of the other passages by more than rounding."""
        return int((np.abs(self.vectors - other.vectors).max(axis=1) > ROUNDING).sum())

    def same_but_vectors(self, other: Passages) -> bool:
        return self.media_ids == other.media_ids and self.texts == other.texts


def export(command: Command) -> tuple[Passages, float]:
    """Export all to a new folder. Returns the passages, and the seconds of the command."""
    with tempfile.TemporaryDirectory(dir=command.folder) as scratch:
        started = perf_counter()
        succeed(command.run("export", "--tenant", "bench", "--output", os.path.join(scratch, "out")))
        seconds = perf_counter() - started
        return Passages(Path(scratch, "out")), seconds


def write_source(directory: Path, found: Passages, model: str) -> None:
    """Write the passages as tldw_server has them: distance l2, metadata and text in each row."""
    client = open_directory(directory)
    collection = client.create_collection(
        "user_bench_media_embeddings",
        configuration={"hnsw": {"space": "l2"}},
        embedding_function=None,
    )
    metadatas = [
        {
            "media_id": media_id,
            "chunk_index": place % ROWS_PER_DOCUMENT,
            "chunk_type": "text",
            "title": f"Document {media_id}",
            "embedding_model": model,
            "embedding_provider": "local",
        }
        for place, media_id in enumerate(found.media_ids)
    ]
    for part in pages(range(len(metadatas)), WRITTEN_TOGETHER):
        rows = slice(part[0], part[-1] + 1)
        collection.add(
            ids=[f"media_{found.media_ids[n]}_chunk_{n % ROWS_PER_DOCUMENT}" for n in part],
            embeddings=found.vectors[rows],
            metadatas=metadatas[rows],
            documents=found.texts[rows],
        )
    client.close()


def succeed(result: Result) -> Result:
    """Return the result of a command. Ends the benchmark if the command failed."""
    if result.code:
        raise SystemExit(f"exit code {result.code}: {result.stdout[-500:]} {result.stderr[-500:]}")
    return result


class Adopting:
    """Adopts one source into data directories of their own."""

    def __init__(self, folder: Path, found: Passages, model: str) -> None:
        self._folder = folder
        self._found = found
        self._model = model
        self._documents = len(found.texts) // ROWS_PER_DOCUMENT
        write_source(folder / "source", found, model)
        self._arguments = ("adopt", "--chroma", str(folder / "source"), "--layout", "tldw", "--model", model)

    def dry_run(self) -> float:
        """Seconds until the command has said what it would do."""
        started = perf_counter()
        planned = succeed(self._command("dry").run(*self._arguments, "--dry-run", "--json"))
        self._require_all(planned.document, "take")
        return perf_counter() - started

    def adopt(self, name: str) -> tuple[float, Passages]:
        """Seconds of the command, and the passages that it leaves."""
        command = self._command(name)
        started = perf_counter()
        done = succeed(command.run(*self._arguments, "--json"))
        seconds = perf_counter() - started
        self._require_all(done.document, "take")
        return seconds, export(command)[0]

    def adopt_killed(self, kills: int) -> tuple[float, Passages]:
        """The same, killed on the way. The kills come after equal shares of the documents."""
        command = self._command("killed")
        started = perf_counter()
        for kill in range(kills):
            process = command.start(*self._arguments)
            command.wait_for_completed(process, self._documents * (kill + 1) // (kills + 2))
            process.send_signal(signal.SIGKILL)
            finish(process)
        succeed(command.run(*self._arguments))
        seconds = perf_counter() - started
        succeed(command.run("verify"))
        return seconds, export(command)[0]

    def _command(self, name: str) -> Command:
        folder = self._folder / name
        folder.mkdir()
        return Command(folder, model=self._model)

    def _require_all(self, report: Mapping[str, Any], outcome: str) -> None:
        counted = {one["outcome"]: one["documents"] for one in report["documents"]}
        if counted != {outcome: self._documents}:
            raise SystemExit(f"{self._documents} documents were to be `{outcome}`: {counted}")


def measured(folder: Path, rows: int, model: str, rounds: int, kills: int) -> dict[str, Any]:
    (folder / "embedded").mkdir()
    seconds = asyncio.run(embed(folder / "embedded", rows, model))
    command = Command(folder / "embedded", model=model)
    found, exporting = export(command)
    adopting = Adopting(folder, found, model)
    planning = adopting.dry_run()
    rates = []
    for number in range(rounds):
        taken, adopted = adopting.adopt(f"adopted-{number}")
        rates.append(rows / taken)
    interrupted, killed = adopting.adopt_killed(kills)
    return {
        "rows": rows,
        "model": model,
        "embed_rows_per_second": round(rows / seconds, 1),
        "export_rows_per_second": round(rows / exporting, 1),
        "dry_run_rows_per_second": round(rows / planning, 1),
        "adopt_rows_per_second": spread(rates),
        "times_as_fast_as_embedding": round(spread(rates)["median"] * seconds / rows, 1),
        "vectors_changed": adopted.changed(found),
        "largest_difference": float(np.abs(adopted.vectors - found.vectors).max()),
        "killed": {
            "kills": kills,
            "rows_per_second": round(rows / interrupted, 1),
            "vectors_changed": killed.changed(found),
        },
        "targets": {
            "complete, with the same texts": adopted.same_but_vectors(found),
            "vectors_changed == 0": not adopted.changed(found),
            "killed: complete and equal, bit for bit": killed.same_but_vectors(adopted)
            and killed.chunk_ids == adopted.chunk_ids
            and killed.vectors.tobytes() == adopted.vectors.tobytes(),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--rounds", type=int, default=3, help="of the adoption")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="few rows, the stub model: proves that it runs")
    arguments = parser.parse_args()
    rows, model, rounds = arguments.rows, arguments.model, arguments.rounds
    if arguments.short:
        rows, model, rounds = 5_000, "stub", 1
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        figures = measured(Path(scratch), rows, model, rounds, arguments.kills)
    figures["load_average"] = round(os.getloadavg()[0], 1)
    write_report(f"adopting_{model}", figures)
    if not all(figures["targets"].values()):
        sys.exit("a target was missed")


if __name__ == "__main__":
    main()
