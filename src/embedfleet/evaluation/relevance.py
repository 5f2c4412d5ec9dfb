"""The score of each answer by a metric: nDCG, recall and reciprocal rank at a depth, by `ir-measures`.

`ir-measures` is an extra, as it brings SciPy (ADR 35). It is imported when the first score is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.evaluation.questions import Passage, Question, documents_once

_NAMES = {"ndcg": "nDCG", "recall": "R", "mrr": "RR"}
_WRITTEN = re.compile(r"(ndcg|recall|mrr)@([1-9][0-9]{0,3})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric at a depth. Every score is from 0 (nothing right was found) to 1.

    `ndcg`: right answers count by their gain and less at lower places (Järvelin and Kekäläinen 2002).
    `recall`: the share of the right answers that is among the first `depth`. `mrr`: 1 by the place of the
    first right answer, whose mean is the mean reciprocal rank.
    """

    kind: str
    depth: int

    @classmethod
    def parse(cls, written: str) -> Metric:
        """Return the metric of a name such as `ndcg@10`, `recall@5` or `mrr@10`."""
        match = _WRITTEN.fullmatch(written.strip())
        if match is None:
            raise InvalidRequest(
                f"`{written}` is no metric: write ndcg, recall or mrr, an @ and a depth, such as ndcg@10"
            )
        return cls(match[1].lower(), int(match[2]))

    def __str__(self) -> str:
        return f"{self.kind}@{self.depth}"


DEFAULT_METRICS = (Metric("ndcg", 10), Metric("recall", 10), Metric("mrr", 10))
"""The first one decides; the others are shown beside it."""


def scores(
    questions: Sequence[Question],
    rankings: Mapping[str, Sequence[Passage]],
    metrics: Sequence[Metric] = DEFAULT_METRICS,
) -> dict[Metric, dict[str, float]]:
    """Return the score of each question by each metric. `rankings` are found passages by the question's id.

    A question without a ranking scores 0. If a question's answers are documents, each document of its ranking
    counts once, with its first passage: `depth` counts documents then, so ask for more passages than that.
    """
    ir_measures = _library()
    wanted = {
        ir_measures.parse_measure(f"{_NAMES[metric.kind]}@{metric.depth}"): metric for metric in metrics
    }
    right = {question.question_id: _gains(question) for question in questions}
    run = {
        question.question_id: _found(question, rankings.get(question.question_id, ()))
        for question in questions
    }
    # What finds nothing is missing in the library's answer.
    result = {metric: dict.fromkeys(right, 0.0) for metric in metrics}
    for found in ir_measures.iter_calc(list(wanted), right, run):
        result[wanted[found.measure]][found.query_id] = float(found.value)
    return result


def _library() -> Any:
    try:
        import ir_measures
    except ImportError as exc:
        raise ConfigError(
            f"metrics of answers need the package ir-measures ({exc}): install the extra `evaluation` of "
            f"embedfleet"
        ) from exc
    return ir_measures


def _gains(question: Question) -> dict[str, int]:
    return {f"right {number}": answer.gain for number, answer in enumerate(question.answers)}


def _found(question: Question, ranking: Sequence[Passage]) -> dict[str, float]:
    """Return the items of a ranking with falling scores: right answers by their number, others by place.

    A right answer that is found a second time, by another passage of it, gains nothing more.
    """
    if all(answer.span is None for answer in question.answers):
        ranking = documents_once(ranking)
    left = dict(enumerate(question.answers))
    items: dict[str, float] = {}
    for place, passage in enumerate(ranking):
        number = next((one for one, answer in left.items() if answer.is_met_by(passage)), None)
        name = f"place {place}"
        if number is not None:
            name = f"right {number}"
            del left[number]
        items[name] = float(len(ranking) - place)
    return items
