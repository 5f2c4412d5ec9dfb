"""Each task of a claim is whole when its last vector is there, and not before."""

from __future__ import annotations

import numpy as np

from embedfleet.inference.isolation import IsolatedOutcome
from embedfleet.workers.gathering import Gathering

CACHED = np.full(2, 9, dtype=np.float32)


def outcome(*values: float, failed: dict[int, str] | None = None) -> IsolatedOutcome:
    vectors = np.repeat(np.array(values, dtype=np.float32)[:, None], 2, axis=1)
    return IsolatedOutcome(vectors, failed or {}, ran_out_of_memory=False)


def test_tasks_become_whole_one_by_one_and_are_taken_once() -> None:
    gathering = Gathering([[None, CACHED], [CACHED], [], [None, None]], dim=2)
    assert gathering.missing.tolist() == [0, 3, 4]
    assert gathering.owners.tolist() == [0, 3, 3]
    assert sorted(gathering.take_whole()) == [1, 2]
    gathering.arrived(np.array([2, 0]), outcome(5, 1))
    assert gathering.take_whole() == [0]
    gathering.arrived(np.array([1]), outcome(4))
    assert gathering.take_whole() == [3]
    assert gathering.take_whole() == []


def test_rows_are_the_tasks_own_in_order() -> None:
    gathering = Gathering([[None, CACHED, None], [None]], dim=2)
    gathering.arrived(np.array([2, 1]), outcome(7, 3))
    gathering.arrived(np.array([0]), outcome(1))
    assert gathering.outcome(0).vectors[:, 0].tolist() == [1, 9, 3]
    assert gathering.outcome(1).vectors[:, 0].tolist() == [7]
    assert gathering.embedded(0).tolist() == [0, 2]
    assert gathering.embedded(1).tolist() == [0]


def test_a_failure_is_the_tasks_it_belongs_to() -> None:
    gathering = Gathering([[None], [CACHED, None]], dim=2)
    gathering.arrived(np.array([0, 1]), outcome(1, 0, failed={1: "poison"}))
    assert gathering.outcome(0).failed == {}
    assert gathering.outcome(1).failed == {1: "poison"}


def test_there_is_news_at_first_and_with_each_arrival() -> None:
    gathering = Gathering([[None]], dim=2)
    assert gathering.news.is_set()
    gathering.news.clear()
    gathering.arrived(np.array([0]), outcome(1))
    assert gathering.news.is_set()


def test_of_tasks_that_are_not_whole_what_arrived_can_be_had_the_rest_counts_as_failed() -> None:
    gathering = Gathering([[None, CACHED, None], [None], [None]], dim=2)
    gathering.arrived(np.array([0, 2]), outcome(1, 3))
    assert gathering.take_whole() == [1]
    assert gathering.take_begun() == [0]
    assert gathering.outcome(0).failed == {2: "not embedded"}
    assert gathering.outcome(0).vectors[:, 0].tolist() == [1, 9, 0]
