"""What the gate lets through, and how it says why not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from embedfleet.model_switching.gate import Answers, AskedQuestion, Measured, judge
from embedfleet.settings import GateSettings

EQUAL = {
    "questions": 250,
    "k": 10,
    "old_recall": 0.8,
    "new_recall": 0.8,
    "difference_low": -0.04,
    "difference_high": 0.04,
    "overlap": 0.4,
    "old_p95_seconds": 0.02,
    "new_p95_seconds": 0.02,
    "old_bytes": 1_024,
    "new_bytes": 1_536,
}


def asked(old_rank: int | None, new_rank: int | None, overlap: float = 0.5) -> AskedQuestion:
    return AskedQuestion("d", True, 0, old_rank, new_rank, overlap)


def test_the_worst_question_is_lost_from_the_first_place_and_the_best_is_found_for_the_first_time() -> None:
    from_the_worst = [
        asked(1, None),
        asked(9, None),
        asked(1, 10),
        asked(1, 3),
        asked(None, None, overlap=0.0),
        asked(2, 2),
        asked(3, 1),
        asked(None, 10),
        asked(None, 1),
    ]
    shuffled = random.Random(1).sample(from_the_worst, len(from_the_worst))
    assert sorted(shuffled, key=lambda one: one.badness, reverse=True) == from_the_worst


def reasons(**changed: Any) -> list[str]:
    return list(judge(Answers(Measured(**{**EQUAL, **changed}), ()), GateSettings()))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"new_p95_seconds": 0.1},
        {"old_p95_seconds": 0.1, "new_p95_seconds": 0.5},
        {"questions": 6, "difference_low": -0.3, "difference_high": 0.3},
        {"new_recall": 0.85, "difference_low": 0.01, "difference_high": 0.09},
        {"new_bytes": 4_096},
    ],
    ids=["equal", "quick in itself", "slower within the limit", "few questions", "better", "larger"],
)
def test_a_space_that_is_good_enough_passes(changed: dict[str, Any]) -> None:
    assert reasons(**changed) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"new_recall": 0.6, "difference_low": -0.25, "difference_high": -0.15},
            "-20.0% (95% -25.0% to -15.0%), a loss of more than 5.0% (max_recall_loss)",
        ),
        ({"difference_low": -0.08, "difference_high": 0.08}, "cannot be ruled out: ask more questions"),
        ({"questions": 6, "new_recall": 0.6, "difference_high": 0.2}, "a loss of more than 5.0%"),
        ({"overlap": 0.05}, "have 5.0% of the first 10 hits in common, at least 10.0% are asked for"),
        ({"old_p95_seconds": 0.1, "new_p95_seconds": 0.6}, "6.0 times as long, 5 are allowed"),
        ({"new_bytes": 8_192}, "8.0 times as many, 4 are allowed (max_bytes_ratio)"),
    ],
)
def test_a_space_that_is_not_is_refused_for_one_reason(changed: dict[str, Any], words: str) -> None:
    [reason] = reasons(**changed)
    assert words in reason


def test_a_tenant_that_has_no_questions_is_refused() -> None:
    [reason] = judge(None, GateSettings())
    assert "no titles or headings" in reason
