"""A task of a claim is complete when its last vector has arrived, and not before."""

from __future__ import annotations

import numpy as np

from embedfleet.inference.isolation import IsolatedOutcome
from embedfleet.workers.claim_progress import ClaimProgress

CACHED = np.full(2, 9, dtype=np.float32)


def outcome(*values: float, failed: dict[int, str] | None = None) -> IsolatedOutcome:
    vectors = np.repeat(np.array(values, dtype=np.float32)[:, None], 2, axis=1)
    return IsolatedOutcome(vectors, failed or {}, ran_out_of_memory=False)


def test_tasks_are_completed_one_by_one_and_are_taken_once() -> None:
    progress = ClaimProgress([[None, CACHED], [CACHED], [], [None, None]], dim=2)
    assert progress.missing.tolist() == [0, 3, 4]
    assert progress.owners.tolist() == [0, 3, 3]
    assert sorted(progress.take_completed()) == [1, 2]
    progress.add_outcome(np.array([2, 0]), outcome(5, 1))
    assert progress.take_completed() == [0]
    progress.add_outcome(np.array([1]), outcome(4))
    assert progress.take_completed() == [3]
    assert progress.take_completed() == []


def test_rows_are_the_tasks_own_in_order() -> None:
    progress = ClaimProgress([[None, CACHED, None], [None]], dim=2)
    progress.add_outcome(np.array([2, 1]), outcome(7, 3))
    progress.add_outcome(np.array([0]), outcome(1))
    assert progress.outcome(0).vectors[:, 0].tolist() == [1, 9, 3]
    assert progress.outcome(1).vectors[:, 0].tolist() == [7]
    assert progress.missing_of_task.tolist() == [2, 1]


def test_a_failure_belongs_to_one_task() -> None:
    progress = ClaimProgress([[None], [CACHED, None]], dim=2)
    progress.add_outcome(np.array([0, 1]), outcome(1, 0, failed={1: "poison"}))
    assert progress.outcome(0).failed == {}
    assert progress.outcome(1).failed == {1: "poison"}


def test_the_change_is_signalled_at_the_start_and_with_each_arrival() -> None:
    progress = ClaimProgress([[None]], dim=2)
    assert progress.changed.is_set()
    progress.changed.clear()
    progress.add_outcome(np.array([0]), outcome(1))
    assert progress.changed.is_set()


def test_a_partial_task_gives_what_arrived_and_counts_the_rest_as_failed() -> None:
    progress = ClaimProgress([[None, CACHED, None], [None], [None]], dim=2)
    progress.add_outcome(np.array([0, 2]), outcome(1, 3))
    assert progress.take_completed() == [1]
    assert progress.take_partial() == [0]
    assert progress.outcome(0).failed == {2: "not embedded"}
    assert progress.outcome(0).vectors[:, 0].tolist() == [1, 9, 0]
