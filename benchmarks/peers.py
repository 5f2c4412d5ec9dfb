"""Figures S2, S3 and S13: documents to vectors in an embedded store, embedfleet beside its peers.

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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from contest import (
    ALL_OURS,
    OURS_WITHOUT_TEXTS,
    WARM_UP,
    add_contestant_arguments,
    all_rounds,
    present_in_all,
    ratio,
    run_here,
    spread,
    visible_chars,
)
from contestants import CONTESTANTS, Contest, Documents, ModelName
from corpus import documents
from report import write_report

TARGETS: Mapping[ModelName, str] = {
    "static": "chunks a second: >= 2.2 x langchain; without documents in Chroma >= 5 x langchain; "
    "into LanceDB >= 2 x langchain into Chroma, >= 1 x langchain into LanceDB (S13)",
    "minilm": "embedding.py has the targets; here is the whole pipeline",
}
CHUNK_CHARS: Mapping[ModelName, int] = {"static": 1000, "minilm": 600}
"""minilm: what fits the model's 256 tokens, so that no contestant's chunks are cut off unseen."""

TEXT_CHARS: Mapping[ModelName, int] = {"static": 400_000, "minilm": 25_000}
SHORT_TEXT_CHARS: Mapping[ModelName, int] = {"static": 60_000, "minilm": 8_000}
DOCUMENT_CHARS: Mapping[ModelName, int] = {"static": 16_000, "minilm": 4_000}


def bounded_documents(total_chars: int, *, most_chars: int) -> Iterator[tuple[str, str]]:
    """Library sources, of each at most the first `most_chars`, `total_chars` in all."""
    left = total_chars
    for name, text in documents(10**12):
        body = text[: min(left, most_chars)]
        yield name, body
        left -= len(body)
        if left <= 0:
            return


def script_of(model: ModelName, text_chars: int) -> list[str]:
    """This benchmark, with the arguments that say which documents a contestant gets."""
    return [__file__, "--model", model, "--text-chars", str(text_chars)]


def contestants_of(model: ModelName) -> list[str]:
    """Where the model takes nearly all the time, it does not matter what is stored, and where."""
    of_the_store = [name for name in CONTESTANTS if name.endswith("into LanceDB")]
    return [
        name for name in CONTESTANTS if model == "static" or name not in (OURS_WITHOUT_TEXTS, *of_the_store)
    ]


def figures(rounds: Sequence[Mapping[str, Mapping[str, Any]]], texts: Documents) -> dict[str, Any]:
    """Of rounds of runs: speeds, what was stored, and how many times as fast as each peer we are."""
    megabytes = sum(len(text.encode()) for _, text in texts) / 1e6
    visible = sum(visible_chars(text) for _, text in [*texts, WARM_UP])
    present = present_in_all(rounds)
    speeds = {
        name: {
            "chunks_per_second": [one[name]["chunks"] / one[name]["seconds"] for one in rounds],
            "mb_per_second": [megabytes / one[name]["seconds"] for one in rounds],
        }
        for name in present
    }
    last = rounds[-1]
    ours = [name for name in present if name in ALL_OURS]
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(TARGETS), default="static")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="one round, few documents: proves that it runs")
    parser.add_argument("--text-chars", type=int, help="how much text")
    add_contestant_arguments(parser)
    arguments = parser.parse_args()
    model: ModelName = arguments.model
    text_chars = arguments.text_chars or (SHORT_TEXT_CHARS if arguments.short else TEXT_CHARS)[model]
    texts = list(bounded_documents(text_chars, most_chars=DOCUMENT_CHARS[model]))
    if arguments.contestant:
        contest = Contest(arguments.contestant, model, CHUNK_CHARS[model], arguments.directory)
        print(json.dumps(run_here(contest, texts)))
        return
    absent: dict[str, str] = {}
    count = 1 if arguments.short else arguments.rounds
    rounds = all_rounds(script_of(model, text_chars), contestants_of(model), count, absent)
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
