"""The scores of two models on the same questions, paired: all together, in slices, and the extreme ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.intervals import CONFIDENCE, Interval, paired_interval
from embedfleet.evaluation.questions import Question


@dataclass(frozen=True, slots=True)
class PairedScore:
    """The scores of both models on one question."""

    question: Question
    a: float
    b: float

    @property
    def difference(self) -> float:
        """How much better B is; negative if A is."""
        return self.b - self.a


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both models on a sample of questions: `difference` is the mean of B minus A, `interval` bounds it."""

    queries: int
    mean_a: float
    mean_b: float
    difference: float
    interval: Interval
    a_better: int
    b_better: int


@dataclass(frozen=True, slots=True)
class Slice:
    """The comparison on the questions of one kind, such as `language` `de`."""

    name: str
    value: str
    comparison: Comparison


def pairs(questions: Sequence[Question], a: Mapping[str, float], b: Mapping[str, float]) -> list[PairedScore]:
    """Pair the scores of two models. Both must have every question, as a missing one would favour a model."""
    for name, scores in (("A", a), ("B", b)):
        missing = [question.question_id for question in questions if question.question_id not in scores]
        if missing:
            raise InvalidRequest(
                f"model {name} has no score of {len(missing):,} questions, first `{missing[0]}`: ask both "
                f"models the same questions"
            )
    return [PairedScore(question, a[question.question_id], b[question.question_id]) for question in questions]


def differences(paired: Sequence[PairedScore]) -> NDArray[np.float64]:
    """Return B minus A of each question, in order: float64 (n_questions,)."""
    return np.array([pair.difference for pair in paired], dtype=np.float64)


def compare(paired: Sequence[PairedScore], interval: Interval | None = None) -> Comparison:
    """Compare two models. `interval` is that of one look (`paired_interval`) unless another one is given."""
    values = differences(paired)
    count = max(1, len(paired))
    return Comparison(
        queries=len(paired),
        mean_a=sum(pair.a for pair in paired) / count,
        mean_b=sum(pair.b for pair in paired) / count,
        difference=float(values.sum()) / count,
        interval=interval or paired_interval(values),
        a_better=int((values < 0).sum()),
        b_better=int((values > 0).sum()),
    )


def length_of(question: Question) -> str:
    """Return the class of a question's length, in characters, as not every script has spaces."""
    length = len(question.text)
    return "short (up to 20)" if length <= 20 else "medium (21 to 60)" if length <= 60 else "long (over 60)"


_SLICES: Mapping[str, Callable[[Question], str]] = {
    "language": lambda question: question.language or "unknown",
    "length": length_of,
    "content type": lambda question: question.content_type or "unknown",
}


def slices(paired: Sequence[PairedScore], confidence: float = CONFIDENCE) -> list[Slice]:
    """Compare the models by language, by length and by content type of the questions, largest slice first.

    A division that has only one slice is left out: it would repeat the whole. Among twenty slices one would
    exclude 0 by chance. So each interval has a higher confidence (Bonferroni), by which all of them hold
    together with `confidence`. They are of one look: read them when the run has ended.
    """
    groups: list[tuple[str, str, list[PairedScore]]] = []
    for name, value_of in _SLICES.items():
        found: dict[str, list[PairedScore]] = {}
        for pair in paired:
            found.setdefault(value_of(pair.question), []).append(pair)
        if len(found) > 1:
            ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
            groups += [(name, value, members) for value, members in ordered]
    each = 1 - (1 - confidence) / max(1, len(groups))
    return [
        Slice(name, value, compare(members, paired_interval(differences(members), each)))
        for name, value, members in groups
    ]


def extremes(paired: Sequence[PairedScore], count: int = 10) -> tuple[list[PairedScore], list[PairedScore]]:
    """Return the questions on which B loses most and those on which it gains most, the most extreme first.

    Questions that both models answer equally well are in neither list.
    """
    ordered = sorted(paired, key=lambda pair: (pair.difference, pair.question.question_id))
    worst = [pair for pair in ordered[:count] if pair.difference < 0]
    best = [pair for pair in reversed(ordered[-count:] if count else []) if pair.difference > 0]
    return worst, best
