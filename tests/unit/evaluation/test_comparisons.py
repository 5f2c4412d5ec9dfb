from __future__ import annotations

import numpy as np
import pytest

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation.comparisons import PairedScore, compare, differences, extremes, pairs, slices
from embedfleet.evaluation.intervals import Interval, paired_interval
from embedfleet.evaluation.questions import Answer, Question
from embedfleet.evaluation.verdicts import Finding, not_worse, verdict


def question(number: int, *, text: str = "what is it", language: str = "en", kind: str = "text") -> Question:
    return Question(f"q{number:03}", text, (Answer("d"),), language, kind)


def paired(*scores: tuple[float, float]) -> list[PairedScore]:
    return [PairedScore(question(number), a, b) for number, (a, b) in enumerate(scores)]


def test_scores_are_paired_by_question() -> None:
    questions = [question(1), question(2)]
    found = pairs(questions, {"q001": 0.5, "q002": 1.0}, {"q001": 1.0, "q002": 0.75})
    assert differences(found).tolist() == [0.5, -0.25]
    result = compare(found)
    assert (result.mean_a, result.mean_b, result.difference) == (0.75, 0.875, 0.125)
    assert (result.queries, result.a_better, result.b_better) == (2, 1, 1)
    assert result.interval == paired_interval([0.5, -0.25])


def test_a_question_that_only_one_model_was_asked_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="model B has no score of 1 questions, first `q002`"):
        pairs([question(1), question(2)], {"q001": 0.5, "q002": 1.0}, {"q001": 1.0})


def test_an_empty_comparison_says_nothing() -> None:
    assert compare([]).interval == Interval(-1.0, 1.0)
    assert slices([]) == []
    assert extremes([]) == ([], [])


def test_slices_have_their_own_numbers_and_leave_out_a_division_of_one() -> None:
    found = [PairedScore(question(number, language="de"), 0.0, 1.0) for number in range(30)]
    found += [PairedScore(question(30 + number, language=""), 1.0, 0.0) for number in range(10)]
    result = slices(found)
    assert [(one.name, one.value, one.comparison.queries) for one in result] == [
        ("language", "de", 30),
        ("language", "unknown", 10),
    ]
    assert [one.comparison.difference for one in result] == [1.0, -1.0]


def test_intervals_of_slices_hold_together() -> None:
    """Each has a higher confidence than the whole: one of many slices would exclude 0 by chance."""
    found = [
        PairedScore(question(number, text="x" * (10 + 30 * (number % 3))), float(number % 5 == 0), 0.2)
        for number in range(90)
    ]
    result = slices(found)
    assert len(result) == 3
    assert all(one.comparison.interval.confidence == pytest.approx(1 - 0.05 / 3) for one in result)


def test_the_extreme_questions_are_those_that_differ_most() -> None:
    worst, best = extremes(paired((0.5, 0.5), (1.0, 0.0), (0.2, 0.4), (0.9, 0.8), (0.0, 1.0)), count=2)
    assert [pair.difference for pair in worst] == pytest.approx([-1.0, -0.1])
    assert [pair.difference for pair in best] == pytest.approx([1.0, 0.2])


SENTENCES = [
    (0.10, (0.05, 0.15), Finding.B_BETTER, "B better by 0.100 (95% 0.050 to 0.150)"),
    (-0.10, (-0.15, -0.05), Finding.A_BETTER, "A better by 0.100 (95% 0.050 to 0.150)"),
    (0.01, (-0.01, 0.03), Finding.SAME, "A and B are the same within 0.05 (95% -0.010 to +0.030)"),
    (
        0.02,
        (0.01, 0.03),
        Finding.B_BETTER,
        "B better by 0.020 (95% 0.010 to 0.030), less than was looked for",
    ),
]


@pytest.mark.parametrize(("difference", "bounds", "finding", "sentence"), SENTENCES)
def test_a_verdict_is_a_sentence(
    difference: float, bounds: tuple[float, float], finding: Finding, sentence: str
) -> None:
    found = verdict(difference, Interval(*bounds), queries=1_000, smallest_difference=0.05)
    assert (found.finding, found.sentence, found.more_queries) == (finding, sentence, 0)
    assert found.is_decided


def test_an_open_verdict_says_how_many_more_queries() -> None:
    """The half width is 0.06 and has to be 0.04: that takes 2.25 times the queries."""
    found = verdict(0.04, Interval(-0.02, 0.10), queries=400, smallest_difference=0.05, a="mini", b="large")
    assert found.sentence == (
        "cannot tell: about 500 more queries (so far large minus mini is +0.040, 95% -0.020 to +0.100)"
    )
    assert (found.finding, found.more_queries, found.is_decided) == (Finding.CANNOT_TELL, 500, False)


def test_few_questions_decide_nothing_however_clear_they_are() -> None:
    found = verdict(0.5, Interval(0.4, 0.6), queries=50, smallest_difference=0.05)
    assert (found.finding, found.more_queries) == (Finding.CANNOT_TELL, 200)
    assert verdict(
        0.5, Interval(0.4, 0.6), queries=50, smallest_difference=0.05, minimal_queries=50
    ).is_decided


def test_no_query_at_all_is_no_verdict() -> None:
    found = verdict(0.0, Interval(-1.0, 1.0), queries=0, smallest_difference=0.05)
    assert (found.finding, found.more_queries) == (Finding.CANNOT_TELL, 250)


@pytest.mark.parametrize(
    ("bounds", "passed", "reason"),
    [
        ((-0.019, 0.01), True, "any loss is below the margin of 0.02"),
        ((-0.02, 0.01), False, "a loss of the margin of 0.02 is not excluded"),
        ((-0.20, -0.03), False, "a loss of more than the margin of 0.02"),
    ],
)
def test_b_is_not_worse_if_a_loss_of_the_margin_is_excluded(
    bounds: tuple[float, float], passed: bool, reason: str
) -> None:
    found = not_worse(-0.01, Interval(*bounds), margin=0.02, what="recall@10")
    assert found.passed is passed
    assert found.reason.startswith("recall@10 of B minus A is -0.010 (95% ")
    assert found.reason.endswith(reason)


def test_a_loss_of_the_margin_passes_in_a_fortieth_of_samples_at_most() -> None:
    """The true loss is the margin, 0.05: 2% of the questions are found by B only, 7% by A only."""
    counts = np.random.default_rng(9).multinomial(250, [0.02, 0.07, 0.91], 4_000)
    passed = 0
    for b_only, a_only, same in np.unique(counts, axis=0):
        sample = [1.0] * b_only + [-1.0] * a_only + [0.0] * same
        if not_worse(sum(sample) / 250, paired_interval(sample), margin=0.05).passed:
            passed += int((counts == (b_only, a_only, same)).all(axis=1).sum())
    assert passed / 4_000 <= 0.025 + 0.0075  # three standard errors
