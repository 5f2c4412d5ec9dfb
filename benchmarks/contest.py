"""Contestants in turns: each run is a process of its own, and its store is read afterwards.

A benchmark script that holds a contest takes the arguments of `add_contestant_arguments`. With them it is one
contestant, and prints what `run_here` returns; without them it starts itself once for each run (`one_run`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import psutil
from contestants import CONTESTANTS, Contest, Documents, contestant
from process_tree import cpu_seconds_of_children, watched_memory

OURS, OURS_WITHOUT_TEXTS, OURS_INTO_LANCEDB, *_ = CONTESTANTS
ALL_OURS = (OURS, OURS_WITHOUT_TEXTS, OURS_INTO_LANCEDB)
WARM_UP = ("warm-up", __doc__)
PAGE = 1000

# No contestant asks the network, which would be timed: no telemetry, no look for newer model files.
OFFLINE = {
    "ANONYMIZED_TELEMETRY": "False",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "TOKENIZERS_PARALLELISM": "true",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """What is in a Chroma directory: rows whose vector is finite and not zero, and visible characters of
    their texts."""

    vectors: int
    text_chars: int


class CannotRun(Exception):
    """A contestant is not installed, or did not come to its end."""


def add_contestant_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)


def run_apart(script: Sequence[str], name: str, directory: Path) -> dict[str, Any]:
    """`run_here` of one contestant in a process of its own, with the peak of its memory.

    `script` is the benchmark and the arguments that say which documents it takes. Raises CannotRun.
    """
    process = psutil.Popen(
        [sys.executable, *script, "--contestant", name, "--directory", str(directory)],
        env=os.environ | OFFLINE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with watched_memory(process) as peak:
        output, errors = process.communicate()
    if process.returncode:
        said = re.findall(r"^[\w.]+: .+$", errors, re.MULTILINE)
        raise CannotRun(said[-1] if said else f"exit code {process.returncode}")
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured | {"peak_process_mb": peak.process_mb, "peak_tree_mb": peak.tree_mb}


def run_here(contest: Contest, texts: Documents) -> dict[str, Any]:
    """The clocks run from documents in memory to vectors stored; the service is warm."""
    module = contestant(contest.contestant)
    with module.opened(contest) as ingest:
        warm_up_chunks = ingest([WARM_UP])
        started, own, of_children = perf_counter(), process_time(), cpu_seconds_of_children()
        chunks = ingest(texts)
        measured = {
            "seconds": perf_counter() - started,
            "cpu_seconds": process_time() - own,
            "children_cpu_seconds": cpu_seconds_of_children() - of_children,
        }
    return measured | {
        "chunks": chunks,
        "warm_up_chunks": warm_up_chunks,
        "settings": module.SETTINGS,
    }


def read_store(directory: Path) -> Stored:
    """Every row of every collection, or table."""
    if directory.name == "lancedb":
        return _read_lancedb(directory)
    import chromadb

    client = chromadb.PersistentClient(str(directory), chromadb.Settings(anonymized_telemetry=False))
    vectors = text_chars = 0
    for collection in client.list_collections():
        for offset in range(0, collection.count(), PAGE):
            page = collection.get(include=["embeddings", "documents"], limit=PAGE, offset=offset)
            lengths = np.linalg.norm(np.asarray(page["embeddings"], dtype=np.float32), axis=1)
            vectors += int((np.isfinite(lengths) & (lengths > 0)).sum())
            text_chars += sum(visible_chars(text) for text in page["documents"] or () if text)
    return Stored(vectors, text_chars)


def _read_lancedb(directory: Path) -> Stored:
    import lance

    vectors = text_chars = 0
    for folder in directory.glob("*.lance"):
        if folder.name.startswith("embedfleet-"):
            continue
        rows = lance.dataset(str(folder)).to_table(columns=["vector", "text"])
        flat = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        lengths = np.linalg.norm(flat.reshape(len(rows), -1), axis=1)
        vectors += int((np.isfinite(lengths) & (lengths > 0)).sum())
        text_chars += sum(visible_chars(text) for text in rows["text"].to_pylist() if text)
    return Stored(vectors, text_chars)


def visible_chars(text: str) -> int:
    """Splitters differ in the white space they keep."""
    return len("".join(text.split()))


def require_all_stored(name: str, chunks: int, stored: Stored) -> None:
    """Speed counts only for what is in the store."""
    if stored.vectors != chunks or not chunks:
        raise SystemExit(f"{name}: said it stored {chunks} chunks, its store has {stored.vectors} vectors")


def one_run(script: Sequence[str], name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        measured = run_apart(script, name, Path(scratch))
        stored = read_store(Path(scratch) / ("lancedb" if name.endswith("into LanceDB") else "chroma"))
    require_all_stored(name, measured["warm_up_chunks"] + measured["chunks"], stored)
    return measured | asdict(stored)


def one_round(
    script: Sequence[str], names: Sequence[str], absent: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Each contestant's run; those that cannot run go to `absent` with the reason."""
    runs: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            runs[name] = one_run(script, name)
        except CannotRun as exc:
            if name in ALL_OURS:
                raise SystemExit(f"{name}: {exc}") from exc
            absent[name] = str(exc)
            print(f"{name} does not take part: {exc}", file=sys.stderr)
    return runs


def all_rounds(
    script: Sequence[str], names: Sequence[str], rounds: int, absent: dict[str, str]
) -> list[dict[str, dict[str, Any]]]:
    """The runs of each round. A contestant that could not run once does not take part any more."""
    return [
        one_round(script, [name for name in rotated(names, number) if name not in absent], absent)
        for number in range(rounds)
    ]


def present_in_all(rounds: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The contestants that ran in each round."""
    return [name for name in CONTESTANTS if all(name in one for one in rounds)]


def rotated(names: Sequence[str], by: int) -> list[str]:
    """Another order each round: who comes after whom matters on a warm disk."""
    shift = by % len(names)
    return [*names[shift:], *names[:shift]]


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return round(statistics.median(a / b for a, b in zip(ours, others, strict=True)), 2)
