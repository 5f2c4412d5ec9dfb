"""The table of retrieval in the documents is what the benchmark wrote, and its best row is the default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retrieval import by_kind, scores_of, share_of_resamples_better
from retrieval_pages import Question

from embedfleet.settings import Settings

ROOT = Path(__file__).parents[2]


def figures_of(name: str) -> dict[str, Any]:
    report = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return {name: row for name, row in report["figures"].items() if isinstance(row, dict) and "all" in row}


def row_of(name: str, figures: dict[str, Any]) -> str:
    cells = [f"{figures[kind]['mrr@10']:.3f}" for kind in ("written", "sentence", "title")]
    all_kinds = [f"{figures['all'][score]:.3f}" for score in ("mrr@10", "hit@1", "hit@10")]
    return f"| {name} | {figures['chunks']:,} | {' | '.join(cells + all_kinds)} |"


def test_the_tables_are_what_was_measured() -> None:
    text = (ROOT / "docs" / "retrieval.md").read_text()
    for report in ("retrieval", "retrieval_manuals"):
        for name, figures in figures_of(report).items():
            assert row_of(name, figures) in text


def test_the_default_finds_at_least_as_much_as_the_plain_reference() -> None:
    config = Settings().chunking.config
    name = f"{config.chunk_size}/{config.overlap} {config.unit}, {config.method}, context"
    assert config.context
    for report in ("retrieval", "retrieval_manuals"):
        figures = figures_of(report)
        reference = figures["windows of 254/32 tokens"]
        for kind in ("written", "sentence", "title", "all"):
            assert figures[name][kind]["mrr@10"] >= reference[kind]["mrr@10"]


def test_scores_are_of_the_first_ten_pages() -> None:
    assert scores_of([1, 2, 0, 10]) == {"mrr@10": 0.4, "hit@1": 0.25, "hit@10": 0.75}


def test_each_kind_of_question_has_the_same_weight() -> None:
    questions = [Question("a", ("p",), "title"), *[Question("b", ("p",), "written")] * 3]
    assert by_kind([1, 2, 2, 2], questions)["all"]["mrr@10"] == 0.75
    assert share_of_resamples_better([1, 1, 1, 1], [2, 1, 1, 1], questions) == 1.0
    assert share_of_resamples_better([1, 1, 1, 1], [1, 1, 1, 1], questions) == 0.0
