"""Figures S2 and S3: documents to vectors in an embedded Chroma, embedfleet beside its peers.

    python benchmarks/peers.py [--model static|minilm] [--rounds 5] [--short]

All get the same documents (library sources), the same weights and the same cores, each in a fresh process
and an empty directory; a round runs all of them, in another order each time, and ratios are formed within a
round. Not timed are imports, loading, opening, and one small document that warms everything up. Each cuts
with its own splitter to about the same size, so both chunks and megabytes of text a second are given. After
each run another process reads the whole store: a contestant whose vectors are not all there ends the
benchmark. One that is not installed or does not run is named with the reason.

`static` is a 256-d token table (the peers get it as a model2vec StaticModel behind their own interface).
`minilm` is all-MiniLM-L6-v2 on the CPU: the peers run sentence-transformers in fp32, embedfleet its default.
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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from contestants import CONTESTANTS, Contest, Documents, ModelName, contestant
from corpus import documents
from report import write_report

OURS, OURS_WITHOUT_TEXTS, *_ = CONTESTANTS
TARGETS: Mapping[ModelName, str] = {
    "static": "chunks a second: >= 2.2 x langchain; without documents in Chroma >= 5 x langchain",
    "minilm": "embedding.py has the targets; here is the whole pipeline",
}
CHUNK_CHARS: Mapping[ModelName, int] = {"static": 1000, "minilm": 600}
"""minilm: what fits the model's 256 tokens, so that no contestant's chunks are cut off unseen."""

TEXT_CHARS: Mapping[ModelName, int] = {"static": 400_000, "minilm": 25_000}
SHORT_TEXT_CHARS: Mapping[ModelName, int] = {"static": 60_000, "minilm": 8_000}
DOCUMENT_CHARS: Mapping[ModelName, int] = {"static": 16_000, "minilm": 4_000}
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


def bounded_documents(total_chars: int, *, most_chars: int) -> Iterator[tuple[str, str]]:
    """Library sources, of each at most the first `most_chars`, `total_chars` in all."""
    left = total_chars
    for name, text in documents(10**12):
        body = text[: min(left, most_chars)]
        yield name, body
        left -= len(body)
        if left <= 0:
            return


def run_apart(name: str, model: ModelName, text_chars: int, directory: Path) -> dict[str, Any]:
    """`run_here` of one contestant in a process of its own. Raises CannotRun."""
    command = [sys.executable, __file__, "--model", model, "--text-chars", str(text_chars)]
    done = subprocess.run(
        [*command, "--contestant", name, "--directory", str(directory)],
        env=os.environ | OFFLINE,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = re.findall(r"^[\w.]+: .+$", done.stderr, re.MULTILINE)
        raise CannotRun(errors[-1] if errors else f"exit code {done.returncode}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def run_here(contest: Contest, texts: Documents) -> dict[str, Any]:
    """The clock runs from documents in memory to vectors stored; the service is warm."""
    module = contestant(contest.contestant)
    with module.opened(contest) as ingest:
        warm_up_chunks = ingest([WARM_UP])
        started, started_cpu = perf_counter(), process_time()
        chunks = ingest(texts)
        seconds, cpu_seconds = perf_counter() - started, process_time() - started_cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "chunks": chunks,
        "warm_up_chunks": warm_up_chunks,
        "settings": module.SETTINGS,
    }


def read_store(directory: Path) -> Stored:
    """Every row of every collection."""
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


def visible_chars(text: str) -> int:
    """Splitters differ in the white space they keep."""
    return len("".join(text.split()))


def require_all_stored(name: str, chunks: int, stored: Stored) -> None:
    """Speed counts only for what is in the store."""
    if stored.vectors != chunks or not chunks:
        raise SystemExit(f"{name}: said it stored {chunks} chunks, its Chroma has {stored.vectors} vectors")


def one_run(name: str, model: ModelName, text_chars: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        measured = run_apart(name, model, text_chars, Path(scratch))
        stored = read_store(Path(scratch) / "chroma")
    require_all_stored(name, measured["warm_up_chunks"] + measured["chunks"], stored)
    return measured | asdict(stored)


def one_round(
    names: Sequence[str], model: ModelName, text_chars: int, absent: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Each contestant's run; those that cannot run go to `absent` with the reason."""
    runs: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            runs[name] = one_run(name, model, text_chars)
        except CannotRun as exc:
            if name in (OURS, OURS_WITHOUT_TEXTS):
                raise SystemExit(f"{name}: {exc}") from exc
            absent[name] = str(exc)
            print(f"{name} does not take part: {exc}", file=sys.stderr)
    return runs


def contestants_of(model: ModelName) -> list[str]:
    """Where the model takes nearly all the time, it does not matter what Chroma stores."""
    return [name for name in CONTESTANTS if model == "static" or name != OURS_WITHOUT_TEXTS]


def rotated(names: Sequence[str], by: int) -> list[str]:
    """Another order each round: who comes after whom matters on a warm disk."""
    shift = by % len(names)
    return [*names[shift:], *names[:shift]]


def figures(rounds: Sequence[Mapping[str, Mapping[str, Any]]], texts: Documents) -> dict[str, Any]:
    """Of rounds of runs: speeds, what was stored, and how many times as fast as each peer we are."""
    megabytes = sum(len(text.encode()) for _, text in texts) / 1e6
    visible = sum(visible_chars(text) for _, text in [*texts, WARM_UP])
    present = [name for name in CONTESTANTS if all(name in one for one in rounds)]
    speeds = {
        name: {
            "chunks_per_second": [one[name]["chunks"] / one[name]["seconds"] for one in rounds],
            "mb_per_second": [megabytes / one[name]["seconds"] for one in rounds],
        }
        for name in present
    }
    last = rounds[-1]
    ours = [name for name in present if name in (OURS, OURS_WITHOUT_TEXTS)]
    return {
        "documents": len(texts),
        "text_mb": round(megabytes, 3),
        "contestants": {
            name: {unit: spread(values) for unit, values in speeds[name].items()}
            | {
                # Of all cores; bears with a busy machine.
                "cpu_ms_per_chunk": spread(
                    [1e3 * one[name]["cpu_seconds"] / one[name]["chunks"] for one in rounds]
                ),
                "vectors_stored": last[name]["vectors"],
                # None: no texts in the store. Less than 1: chunks alike were stored once.
                "text_stored": round(last[name]["text_chars"] / visible, 4) or None,
                "settings": last[name]["settings"],
            }
            for name in present
        },
        "times_as_fast_as": {
            own: {
                name: {unit: ratio(speeds[own][unit], speeds[name][unit]) for unit in speeds[name]}
                for name in present
                if name not in ours
            }
            for own in ours
        },
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return round(statistics.median(a / b for a, b in zip(ours, others, strict=True)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(TARGETS), default="static")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="one round, few documents: proves that it runs")
    parser.add_argument("--text-chars", type=int, help="how much text")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model: ModelName = arguments.model
    text_chars = arguments.text_chars or (SHORT_TEXT_CHARS if arguments.short else TEXT_CHARS)[model]
    texts = list(bounded_documents(text_chars, most_chars=DOCUMENT_CHARS[model]))
    if arguments.contestant:
        contest = Contest(arguments.contestant, model, CHUNK_CHARS[model], arguments.directory)
        print(json.dumps(run_here(contest, texts)))
        return
    absent: dict[str, str] = {}
    rounds = []
    for number in range(1 if arguments.short else arguments.rounds):
        present = [name for name in rotated(contestants_of(model), number) if name not in absent]
        rounds.append(one_round(present, model, text_chars, absent))
    circumstances = {
        "model": model,
        "target": TARGETS[model],
        "rounds": len(rounds),
        "chunk_chars_most": CHUNK_CHARS[model],
        "absent": absent,
    }
    write_report(f"peers_{model}", circumstances | figures(rounds, texts))


if __name__ == "__main__":
    main()
