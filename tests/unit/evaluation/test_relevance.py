from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import pytest

from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.evaluation.questions import Answer, Passage, Question, same_passage
from embedfleet.evaluation.rankings import hit_at, overlap_at
from embedfleet.evaluation.relevance import DEFAULT_METRICS, Metric, scores

NDCG, RECALL, MRR = DEFAULT_METRICS


def documents(*names: str) -> list[Passage]:
    return [Passage(name, 0, 100) for name in names]


def score(question: Question, ranking: Sequence[Passage], metric: Metric = NDCG) -> float:
    return scores([question], {question.question_id: ranking}, [metric])[metric][question.question_id]


def test_scores_are_those_of_the_definitions() -> None:
    """nDCG by hand: gains 2 and 1, of which the second is found first and the other one at place 3."""
    question = Question("q", "?", (Answer("best", gain=2), Answer("good", gain=1), Answer("lost", gain=1)))
    ranking = documents("good", "x", "best")
    by_hand = (1 + 2 / math.log2(4)) / (2 + 1 / math.log2(3) + 1 / math.log2(4))
    assert score(question, ranking) == pytest.approx(by_hand)
    assert score(question, ranking, RECALL) == pytest.approx(2 / 3)
    assert score(question, ranking, MRR) == 1.0
    assert score(question, ranking, Metric("recall", 2)) == pytest.approx(1 / 3)


def test_a_known_item_scores_by_its_place() -> None:
    question = Question("q", "?", (Answer("wanted"),))
    ranking = documents("a", "b", "wanted")
    assert score(question, ranking, MRR) == pytest.approx(1 / 3)
    assert score(question, ranking, RECALL) == 1.0
    assert score(question, ranking, Metric("mrr", 2)) == 0.0


def test_a_question_that_finds_nothing_scores_0_and_is_not_left_out() -> None:
    question = Question("q", "?", (Answer("wanted"),))
    cases: list[dict[str, list[Passage]]] = [{}, {"q": []}, {"q": documents("other")}]
    for rankings in cases:
        found = scores([question], rankings)
        assert [found[metric] for metric in DEFAULT_METRICS] == [{"q": 0.0}] * 3


def test_a_document_counts_once_however_many_of_its_passages_are_found() -> None:
    question = Question("q", "?", (Answer("wanted"),))
    long_one = [Passage("long", start, start + 100) for start in range(0, 1_000, 100)]
    assert score(question, [*long_one, *documents("wanted")], MRR) == 0.5


def test_a_passage_is_found_in_the_space_that_cuts_elsewhere_too() -> None:
    question = Question("q", "?", (Answer("book", span=(1_000, 2_000)),))
    assert score(question, [Passage("book", 0, 1_100), Passage("book", 1_400, 1_900)], MRR) == 0.5
    assert score(question, [Passage("other", 1_000, 2_000)], MRR) == 0.0


def test_a_passage_that_is_found_twice_gains_once() -> None:
    question = Question("q", "?", (Answer("book", span=(0, 1_000)), Answer("book", span=(5_000, 6_000))))
    twice = [Passage("book", 0, 500), Passage("book", 500, 1_000)]
    assert score(question, twice, RECALL) == 0.5
    between = [twice[0], Passage("other", 0, 9), twice[1]]
    assert score(question, between, MRR) == 1.0


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(ConfigError, match="install the extra `evaluation`"):
        scores([], {})


def test_an_unknown_metric_is_refused_with_what_to_write() -> None:
    assert Metric.parse("nDCG@10") == NDCG
    assert str(Metric.parse("recall@5")) == "recall@5"
    for wrong in ("map", "recall", "ndcg@0", "ndcg@ten"):
        with pytest.raises(InvalidRequest, match="such as ndcg@10"):
            Metric.parse(wrong)


def test_a_hit_of_a_known_item_is_the_recall_of_the_library() -> None:
    book = [Passage("x", 0, 9), Passage("x", 9, 20), Passage("book", 0, 1_100), Passage("book", 1_400, 1_900)]
    for answer in (Answer("book"), Answer("book", span=(1_000, 2_000)), Answer("lost")):
        question = Question("q", "?", (answer,))
        for k in range(1, 6):
            assert hit_at(k, question, book) == score(question, book, Metric("recall", k))
    assert not hit_at(5, question, [])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((0, 100), (0, 100), True),
        ((0, 100), (49, 149), True),
        ((0, 100), (50, 150), False),
        ((0, 1_000), (900, 960), True),
        ((0, 100), (200, 300), False),
        ((0, 0), (0, 0), False),
    ],
)
def test_passages_are_the_same_if_they_share_more_than_half_of_the_shorter(
    one: tuple[int, int], other: tuple[int, int], same: bool
) -> None:
    first, second = Passage("book", *one), Passage("book", *other)
    assert same_passage(first, second) is same_passage(second, first) is same
    assert not same_passage(first, Passage("other", *other))


def test_the_overlap_of_rankings_is_the_share_that_both_have() -> None:
    ranking = documents("a", "b", "c", "d")
    assert overlap_at(10, ranking, ranking[::-1]) == 1.0
    assert overlap_at(2, ranking, ranking[::-1]) == 0.0
    assert overlap_at(10, ranking, documents("a", "b", "x", "y")) == 0.5
    assert overlap_at(10, [], []) == 1.0
    assert overlap_at(10, ranking, []) == 0.0


def test_the_overlap_does_not_depend_on_which_space_cuts_smaller() -> None:
    large, small = (
        [Passage("a", 0, 1_000)],
        [Passage("a", 0, 500), Passage("a", 500, 1_000), Passage("b", 0, 9)],
    )
    assert overlap_at(10, large, small) == overlap_at(10, small, large) == pytest.approx(3 / 4)
