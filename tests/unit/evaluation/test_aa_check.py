from __future__ import annotations

import numpy as np
import pytest

from embedfleet.errors import InvalidRequest
from embedfleet.evaluation import aa_check
from embedfleet.evaluation.planning import plan

PLAN = plan(0.1, deviation=0.4)


def test_answers_of_which_one_model_is_much_better_make_experiments_without_a_difference() -> None:
    """B finds 30% of the answers that A misses. The models change names by a coin, so neither is better."""
    found = aa_check.simulate(PLAN, [1.0] * 30 + [0.0] * 70, seed=1)
    assert found.passed
    assert 0 < found.alarms <= 50
    assert found == aa_check.simulate(PLAN, [1.0] * 30 + [0.0] * 70, seed=1)


def test_equal_answers_never_raise_an_alarm() -> None:
    assert aa_check.simulate(PLAN, [0.0] * 40, seed=1).alarms == 0


def test_a_rule_with_too_many_alarms_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold of a single look's 5% on either side, without the division by two."""
    from embedfleet.evaluation.confidence_sequence import ConfidenceSequence

    monkeypatch.setattr(ConfidenceSequence, "log_threshold", float(np.log(4)))
    assert not aa_check.simulate(PLAN, [1.0, -1.0, 0.0, 0.0], seed=1).passed


def test_a_check_without_answers_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs the answers"):
        aa_check.simulate(PLAN, [], seed=1)
