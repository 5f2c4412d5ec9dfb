"""Many small documents: embedfleet beside its peers, and alone with more and more of them.

`small_documents.py` runs this, and says what is measured. Run by itself it is one contestant of one run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from contest import (
    OURS,
    add_contestant_arguments,
    all_rounds,
    one_run,
    present_in_all,
    ratio,
    run_here,
    spread,
)
from contestants import Contest
from corpus import slices

LANGCHAIN = "langchain index()"
NAMES = (OURS, LANGCHAIN, "llama_index IngestionPipeline")
CHUNK_CHARS = 1000
SHORT_CHARS, LONG_CHARS = 300, 2000
CPU_MS_OF_DOCUMENT = 2.0
MOST_GROWTH = 1.25
"""Linear: of four times the documents, each takes at most a quarter more processor time."""


def script_of(documents: int, chars: int) -> list[str]:
    """A contestant's run, with the arguments that say which documents a contestant gets."""
    return [__file__, "--documents", str(documents), "--chars", str(chars)]


def contest(documents: int, rounds: int) -> dict[str, Any]:
    """embedfleet beside its peers, with documents of both lengths."""
    found: dict[str, Any] = {}
    for chars in (SHORT_CHARS, LONG_CHARS):
        absent: dict[str, str] = {}
        runs = all_rounds(script_of(documents, chars), NAMES, rounds, absent)
        found[f"documents of {chars} characters"] = contest_figures(runs, documents) | {"absent": absent}
    return found


def contest_figures(rounds: Sequence[Mapping[str, Mapping[str, Any]]], documents: int) -> dict[str, Any]:
    """Of rounds of runs: speed, processor time and memory of each, and our speed by that of each peer."""
    present = present_in_all(rounds)
    speeds = {name: [documents / one[name]["seconds"] for one in rounds] for name in present}
    found: dict[str, Any] = {
        "documents": documents,
        "contestants": {
            name: {"documents_per_second": spread(speeds[name])}
            | {
                unit: spread([1e3 * one[name][measured] / documents for one in rounds])
                for unit, measured in (
                    ("cpu_ms_per_document", "cpu_seconds"),
                    ("children_cpu_ms_per_document", "children_cpu_seconds"),
                )
            }
            | {
                "peak_memory_mb": spread([one[name]["peak_tree_mb"] for one in rounds]),
                "peak_memory_own_process_mb": spread([one[name]["peak_process_mb"] for one in rounds]),
                "vectors_stored": rounds[-1][name]["vectors"],
                "settings": rounds[-1][name]["settings"],
            }
            for name in present
        },
        "times_as_fast_as": {name: ratio(speeds[OURS], speeds[name]) for name in present if name != OURS},
    }
    return found | {"targets": contest_targets(found)}


def contest_targets(found: Mapping[str, Any]) -> dict[str, bool | None]:
    """Which are met; None if langchain is not there to be compared with."""
    by_langchain = found["times_as_fast_as"].get(LANGCHAIN)
    own_cpu = found["contestants"][OURS]["cpu_ms_per_document"]["median"]
    return {
        "documents_per_second >= 1.0 x langchain": None if by_langchain is None else by_langchain >= 1.0,
        f"cpu_ms_per_document <= {CPU_MS_OF_DOCUMENT}": own_cpu <= CPU_MS_OF_DOCUMENT,
    }


def linearity(documents: int, rounds: int) -> dict[str, Any]:
    """A quarter of the documents, half of them, and all."""
    counts = [documents // 4, documents // 2, documents]
    runs = [[one_run(script_of(count, SHORT_CHARS), OURS) for count in counts] for _ in range(rounds)]
    cpu = [[one["cpu_seconds"] + one["children_cpu_seconds"] for one in row] for row in runs]
    cpu_ms = [[1e3 * value / count for value, count in zip(row, counts, strict=True)] for row in cpu]
    growth = ratio([row[-1] for row in cpu_ms], [row[0] for row in cpu_ms])
    return {
        f"{count} documents": {
            "ms_per_document": spread([1e3 * row[at]["seconds"] / count for row in runs]),
            "cpu_ms_per_document_with_children": spread([row[at] for row in cpu_ms]),
        }
        for at, count in enumerate(counts)
    } | {"cpu_growth": growth, "targets": {f"cpu_growth <= {MOST_GROWTH}": growth <= MOST_GROWTH}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, required=True)
    parser.add_argument("--chars", type=int, required=True)
    add_contestant_arguments(parser)
    arguments = parser.parse_args()
    texts = list(slices(arguments.documents, arguments.chars))
    run = Contest(arguments.contestant, "static", CHUNK_CHARS, arguments.directory)
    print(json.dumps(run_here(run, texts)))


if __name__ == "__main__":
    main()
