"""What a ranking of passages finds, and how alike two rankings are."""

from __future__ import annotations

from collections.abc import Sequence

from embedfleet.evaluation.questions import Passage, Question, documents_once, same_passage


def hit_at(k: int, question: Question, ranking: Sequence[Passage]) -> bool:
    """Return whether a right answer is among the first `k` of a ranking.

    Where one answer is right, as of a known item, this is `recall@k`; it needs no library, as the gate of a
    switch works in every installation. If the answers are documents, `k` counts documents.
    """
    if all(answer.span is None for answer in question.answers):
        ranking = documents_once(ranking)
    return any(answer.is_met_by(passage) for passage in ranking[:k] for answer in question.answers)


def overlap_at(k: int, one: Sequence[Passage], other: Sequence[Passage]) -> float:
    """Return the share of the first `k` passages of two rankings that the other ranking has in its first `k`.

    It is counted in both rankings, so the order of the two does not matter. Passages are the same by
    `same_passage`. Two empty rankings agree (1.0); an empty one and another share nothing (0.0).
    """
    first, second = one[:k], other[:k]
    if not first and not second:
        return 1.0
    return (_met(first, second) + _met(second, first)) / (len(first) + len(second))


def _met(passages: Sequence[Passage], others: Sequence[Passage]) -> int:
    return sum(any(same_passage(passage, other) for other in others) for passage in passages)
