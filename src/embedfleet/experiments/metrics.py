"""The metrics that an experiment can decide by, and the scores of one question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.questions import Passage, Question
from embedfleet.evaluation.relevance import DEFAULT_METRICS, Metric, scores

_OVERLAP = re.compile(r"overlap@([1-9][0-9]{0,2})", re.IGNORECASE)
# Where the answers are documents, each counts once. So more passages are asked for, to have enough.
_PASSAGES_PER_DOCUMENT = 3


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """A metric of right answers, or, with `metric` None, the overlap of both answers at a depth.

    An overlap needs no right answers. It says how alike two models are, and not which is better.
    """

    metric: Metric | None
    depth: int

    @classmethod
    def parse(cls, written: str) -> ComparedMetric:
        """Return the metric of a name such as `ndcg@10` or `overlap@10`. Raises InvalidRequest."""
        overlap = _OVERLAP.fullmatch(written.strip())
        if overlap is not None:
            return cls(None, int(overlap[1]))
        metric = Metric.parse(written)
        if metric.depth > 100:
            raise InvalidRequest(f"`{written}`: give a depth of at most 100, as few people look further")
        return cls(metric, metric.depth)

    def __str__(self) -> str:
        return f"overlap@{self.depth}" if self.metric is None else str(self.metric)

    @property
    def all(self) -> Sequence[Metric]:
        """The deciding metric, and those that are shown beside it."""
        if self.metric is None:
            return ()
        return (self.metric, *(one for one in DEFAULT_METRICS if one != self.metric))

    def passages(self, question: Question) -> int:
        """Return how many passages have to be asked for, so that all metrics have what they look at."""
        depth = max([self.depth, *(one.depth for one in self.all)])
        of_documents = all(answer.span is None for answer in question.answers)
        return depth * _PASSAGES_PER_DOCUMENT if of_documents and question.answers else depth

    def scores_of(self, question: Question, found: Sequence[Passage]) -> dict[str, float]:
        """Return the score of an answer by each metric. Raises ConfigError without the extra `evaluation`."""
        if not self.all:
            return {}
        by_metric = scores([question], {question.question_id: found}, self.all)
        return {str(one): by_question[question.question_id] for one, by_question in by_metric.items()}
