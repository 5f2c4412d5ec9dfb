"""Fusion of two spaces: code in one model's space, prose in another's, one list of hits from both.

The corpus comes with Python: functions of its standard library without their docstrings (code), and
paragraphs of its language reference (`pydoc_data`) without their first sentences (prose). A question is the
first sentence of a docstring, or of a paragraph; its right answer is the one passage that it was taken from.
Everything is compared with every question, so no index is part of it.

    python benchmarks/fusion.py [--code 3000] [--questions 300] [--short]

Ways to answer: everything in one model; or code in one model and prose in another, fused by how rare a score
is in its space (`embedfleet.routing.fusion`), by ranks (reciprocal rank fusion), by cosines as they are, and
by an oracle that searches only the space of the right answer. The cosines of these two models happen to have
about the same range. Those of others do not: E5's are between 0.7 and 1. So the cosines of one space are also
moved there, which changes no order within it, and nothing of the calibrated list.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import hashlib
import pydoc_data.topics
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import write_report

from embedfleet.cli.models_loading import loaded, with_worker_threads
from embedfleet.evaluation.comparisons import compare, pairs
from embedfleet.evaluation.questions import Answer, Passage, Question
from embedfleet.evaluation.relevance import Metric, scores
from embedfleet.inference.catalogue import Catalogue
from embedfleet.metrics import Metrics
from embedfleet.routing.fusion import Background, fused
from embedfleet.routing.made_up_questions import (
    GENERAL,
    PASSAGES_OF_A_SPACE,
    QUESTIONS_OF_A_SPACE,
    question_of,
)
from embedfleet.settings import Settings
from embedfleet.tokenising import cut, tokenised

Vectors = NDArray[np.float32]

MODELS = ("static", "minilm")
DEPTH = 10
METRICS = (Metric("ndcg", DEPTH), Metric("recall", DEPTH))
LONGEST_PASSAGE = 1_000


@dataclass(frozen=True, slots=True)
class Item:
    """A passage with the question that it answers."""

    name: str
    kind: str
    text: str
    question: str


def by_hash(items: Sequence[Item]) -> list[Item]:
    """Return the items in an order that is the same everywhere and has nothing to do with their content."""
    return sorted(items, key=lambda one: hashlib.sha256(one.text.encode()).digest())


def code_items() -> Iterator[Item]:
    """Yield the functions of the standard library that have a docstring of at least five words."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(relative.parts):
            continue
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (item := _function(node, source, relative)):
                yield item


def _function(node: ast.FunctionDef, source: str, path: Path) -> Item | None:
    docstring, text = ast.get_docstring(node), ast.get_source_segment(source, node)
    if not docstring or text is None or len(node.body) < 2:
        return None
    lines = text.splitlines()
    first, last = node.body[0].lineno - node.lineno, (node.body[0].end_lineno or 0) - node.lineno
    body = "\n".join([*lines[:first], *lines[last + 1 :]])[:LONGEST_PASSAGE]
    question = re.split(r"(?<=[.!?])\s", " ".join(docstring.split()))[0]
    if len(question.split()) < 5 or len(question) > 200 or len(body) < 100:
        return None
    return Item(f"{path}:{node.lineno}", "code", body, question)


def prose_items() -> Iterator[Item]:
    """Yield the paragraphs of the language reference; those of one sentence answer no question."""
    for topic, text in sorted(pydoc_data.topics.topics.items()):
        for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
            sentences = re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split()))
            rest = " ".join(sentences[1:]) or sentences[0]
            if len(rest) < 100 or "+---" in rest or "::=" in rest:
                continue
            asks = len(sentences) > 1 and 5 <= len(sentences[0].split()) <= 40
            yield Item(f"{topic}:{number}", "prose", rest[:LONGEST_PASSAGE], sentences[0] if asks else "")


def unique(items: Iterator[Item]) -> list[Item]:
    """Return the items in a fixed order, each text and each question once."""
    found: dict[str, Item] = {}
    asked: set[str] = set()
    for item in items:
        if item.text in found or (item.question and item.question in asked):
            continue
        found[item.text] = item
        asked.add(item.question)
    return by_hash(list(found.values()))


async def embedded(
    texts: Mapping[str, Sequence[str]], wanted: Mapping[str, Sequence[str]]
) -> dict[str, Vectors]:
    """Return vectors (n, dim), of length 1, by `model name`: of the texts of these names with each model."""
    settings = with_worker_threads(Settings())
    catalogue = Catalogue(settings.models)
    vectors: dict[str, Vectors] = {}
    for model, names in wanted.items():
        async with loaded(model, catalogue, settings, Metrics()) as runner:
            for name in names:
                role = "query" if "questions" in name else "document"
                batch = cut(tokenised(texts[name], runner.info, role=role), runner.info)  # type: ignore[arg-type]
                vectors[f"{model} {name}"] = (await runner.embed(batch)).vectors
                print(f"{model}: {len(texts[name])} {name}", flush=True)
    return vectors


def top(cosines: NDArray[np.float32]) -> tuple[list[int], list[float]]:
    """Return the places and values of the highest cosines of a row, highest first."""
    order = np.argsort(-cosines, kind="stable")[:DEPTH]
    return order.tolist(), cosines[order].tolist()


def by_ranks(lists: Sequence[Sequence[int]], k: int) -> list[tuple[int, int]]:
    """Reciprocal rank fusion (Cormack et al. 2009): list and place. The first list wins equal ranks."""
    hits = [
        (1 / (k + rank), number, place)
        for number, one in enumerate(lists)
        for rank, place in enumerate(one, start=1)
    ]
    return [(number, place) for _, number, place in sorted(hits, key=lambda hit: (-hit[0], hit[1]))][:DEPTH]


@dataclass(frozen=True, slots=True)
class Spaces:
    """The passages of each kind, and for each question what both spaces find: places and cosines."""

    items: Mapping[str, Sequence[Item]]
    found: Sequence[Mapping[str, tuple[list[int], list[float]]]]
    backgrounds: Mapping[str, Background]


def ways(spaces: Spaces, asked: Sequence[Item]) -> dict[str, Callable[[int], list[str]]]:
    """Return, by name, what makes the list of names of a question's hits from both spaces."""
    kinds = ["code", "prose"]

    def names(hits: Sequence[tuple[int, int]]) -> list[str]:
        return [spaces.items[kinds[number]][place].name for number, place in hits]

    def calibrated(number: int) -> list[str]:
        found = spaces.found[number]
        hits = fused(
            [found[kind][1] for kind in kinds], [spaces.backgrounds[kind] for kind in kinds], most=DEPTH
        )
        return names([(hit.list_number, found[kinds[hit.list_number]][0][hit.place]) for hit in hits])

    def raw(number: int, narrow: str | None = None) -> list[str]:
        found = spaces.found[number]
        hits = [
            (0.7 + 0.3 * score if kind == narrow else score, which, place)
            for which, kind in enumerate(kinds)
            for place, score in zip(*found[kind], strict=True)
        ]
        return names([(which, place) for _, which, place in sorted(hits, key=lambda hit: -hit[0])[:DEPTH]])

    def ranks(k: int) -> Callable[[int], list[str]]:
        return lambda number: names(by_ranks([spaces.found[number][kind][0] for kind in kinds], k))

    def oracle(number: int) -> list[str]:
        kind = asked[number].kind
        return names([(kinds.index(kind), place) for place in spaces.found[number][kind][0]])

    return {
        "two spaces, calibrated": calibrated,
        "two spaces, ranks (k=60)": ranks(60),
        "two spaces, cosines as they are": raw,
        "two spaces, cosines, those of code between 0.7 and 1": partial(raw, narrow="code"),
        "two spaces, cosines, those of prose between 0.7 and 1": partial(raw, narrow="prose"),
        "two spaces, only the right one (oracle)": oracle,
    }


def judged(asked: Sequence[Item], rankings: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, Any]:
    """Return the figures of each way, and how the calibrated list differs from each other one."""
    questions = [Question(str(number), one.question, (Answer(one.name),)) for number, one in enumerate(asked)]
    values = {
        way: scores(
            questions,
            {str(number): [Passage(name, 0, 1) for name in names] for number, names in enumerate(lists)},
            METRICS,
        )
        for way, lists in rankings.items()
    }
    figures: dict[str, Any] = {}
    ours = "two spaces, calibrated"
    for way, by_metric in values.items():
        one: dict[str, Any] = {}
        for metric in METRICS:
            compared = compare(pairs(questions, by_metric[metric], values[ours][metric]))
            one[str(metric)] = round(compared.mean_a, 4)
            for kind in ("code", "prose"):
                of_kind = [by_metric[metric][str(n)] for n, item in enumerate(asked) if item.kind == kind]
                one[f"{metric} of {kind}"] = round(float(np.mean(of_kind)), 4)
            if way != ours:
                interval = [round(compared.interval.low, 4), round(compared.interval.high, 4)]
                one[f"{metric} gained by calibrated"] = {
                    "difference": round(compared.difference, 4),
                    "interval_95": interval,
                }
        figures[way] = one
    return figures


async def measure(most_code: int, most_questions: int) -> dict[str, Any]:
    """Return the figures of all ways, for both ways to route."""
    items = {"code": unique(code_items())[:most_code], "prose": unique(prose_items())}
    asked = [one for kind in items for one in [i for i in items[kind] if i.question][:most_questions]]
    makers = [(kind, one) for kind in items for one in items[kind][:QUESTIONS_OF_A_SPACE]]
    origins = [kind for kind, _ in makers] + ["general"] * len(GENERAL)
    texts = {kind: [one.text for one in items[kind]] for kind in items}
    texts["questions"] = [one.question for one in asked]
    texts["made-up questions"] = [question_of(one.text) for _, one in makers] + list(GENERAL)
    vectors = await embedded(texts, {model: list(texts) for model in MODELS})
    whole = {f"one space, {model}": _in_one_space(items, vectors, model) for model in MODELS}
    figures: dict[str, Any] = {
        "passages": {kind: len(items[kind]) for kind in items},
        "questions": {kind: sum(one.kind == kind for one in asked) for kind in items},
    }
    for models in ({"code": "static", "prose": "minilm"}, {"code": "minilm", "prose": "static"}):
        spaces = _spaces(items, asked, vectors, models, origins)
        lists = {
            way: [answer(one) for one in range(len(asked))] for way, answer in ways(spaces, asked).items()
        }
        routed = f"code in {models['code']}, prose in {models['prose']}"
        figures[routed] = judged(asked, lists | whole)
        figures["pairs of a background"] = {kind: one.pairs for kind, one in spaces.backgrounds.items()}
    return figures


def _in_one_space(
    items: Mapping[str, Sequence[Item]], vectors: Mapping[str, Vectors], model: str
) -> list[list[str]]:
    """Return the names of each question's hits if everything is in the space of one model."""
    passages = np.concatenate([vectors[f"{model} {kind}"] for kind in items])
    names = [one.name for kind in items for one in items[kind]]
    return [[names[place] for place in top(row)[0]] for row in vectors[f"{model} questions"] @ passages.T]


def _spaces(
    items: Mapping[str, Sequence[Item]],
    asked: Sequence[Item],
    vectors: Mapping[str, Vectors],
    models: Mapping[str, str],
    origins: Sequence[str],
) -> Spaces:
    """Measure the background of each space, as a search does, and compare all passages with each question.

    `origins` has, for each made-up question, the kind of the passage that it is from.
    """
    backgrounds, cosines = {}, {}
    for kind, model in models.items():
        foreign = [row for row, origin in enumerate(origins) if origin != kind]
        made_up = vectors[f"{model} made-up questions"][foreign]
        sample = vectors[f"{model} {kind}"][:PASSAGES_OF_A_SPACE]
        backgrounds[kind] = Background.of((made_up @ sample.T).ravel())
        cosines[kind] = vectors[f"{model} questions"] @ vectors[f"{model} {kind}"].T
    found = [{kind: top(cosines[kind][number]) for kind in models} for number in range(len(asked))]
    return Spaces(items, found, backgrounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--code", type=int, default=3_000, help="most passages of code")
    parser.add_argument("--questions", type=int, default=300, help="most questions of each kind")
    parser.add_argument("--short", action="store_true", help="few passages and questions: does it run?")
    arguments = parser.parse_args()
    most_code, most_questions = (200, 30) if arguments.short else (arguments.code, arguments.questions)
    write_report("fusion", asyncio.run(measure(most_code, most_questions)))


if __name__ == "__main__":
    main()
