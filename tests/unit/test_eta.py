"""When a job will have ended: pure arithmetic."""

from __future__ import annotations

import pytest

from embedfleet.eta import StagePower, WorkAhead, pace, seconds_left, two_digits


def test_the_slowest_measured_stage_sets_the_pace() -> None:
    assert pace({"a": StagePower(1, 900.0), "b": StagePower(2, 300.0), "c": StagePower(1)}) == 300.0
    assert pace({"a": StagePower(4)}) is None


@pytest.mark.parametrize(
    ("own", "total", "share", "seconds"),
    [
        (1_000, 1_000, 1.0, 10.0),  # alone
        (1_000, 9_000, 0.5, 20.0),  # half of the workers while the other has work
        (1_000, 1_100, 0.5, 11.0),  # the other one is done soon, and then all workers are for it
        (1_000, 9_000, 0.01, 90.0),  # never later than the end of all work
        (1_000, 0, 1.0, 10.0),  # the sum was read before the job was submitted
        (0, 9_000, 0.5, 0.0),
    ],
)
def test_a_tenant_has_its_share_while_others_have_work(
    own: float, total: float, share: float, seconds: float
) -> None:
    assert seconds_left(WorkAhead(own, total, share), 100.0) == pytest.approx(seconds)
    assert seconds_left(WorkAhead(own, total, share), None) is None


def test_an_eta_has_two_digits() -> None:
    assert (two_digits(1234.5), two_digits(0.0), two_digits(None)) == (1200.0, 0.0, None)
