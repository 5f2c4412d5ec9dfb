"""How tenants fare over thousands of tasks, whatever their tasks look like."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest

from embedfleet.queue.broker import Task, TenantShare
from embedfleet.queue.ready_tasks import ReadyTasks


def tokens_served(
    ready: ReadyTasks, backlog: Mapping[str, list[int]], *, total: int, jobs: int = 1
) -> Counter[str]:
    """Offer each tenant's costs, spread over `jobs` jobs, and serve until `total` tokens are given."""
    sequence = 0
    for tenant, costs in backlog.items():
        for i, cost in enumerate(costs):
            sequence += 1
            ready.add(Task(f"{tenant}{i}", tenant, f"{tenant}-job{i % jobs}", cost, b""), sequence)
    served: Counter[str] = Counter()
    while served.total() < total:
        task = ready.serve_first()
        served[task.tenant] += task.cost
    return served


def jain(values: list[float]) -> float:
    """Jain's index of fairness: 1 when all are equal, 1/n when one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


@pytest.mark.parametrize("seed", range(3))
def test_weights_1_2_4_share_within_two_percent(seed: int) -> None:
    rng = random.Random(seed)
    weights = {"one": 1.0, "two": 2.0, "four": 4.0}
    shares = {tenant: TenantShare(weight) for tenant, weight in weights.items()}
    backlog = {tenant: [rng.randint(1, 512) for _ in range(4_000)] for tenant in weights}

    served = tokens_served(ReadyTasks(interactive_burst=8, shares=shares), backlog, total=1_000_000)

    for tenant, weight in weights.items():
        assert served[tenant] / served.total() == pytest.approx(weight / 7, rel=0.02)
    assert jain([served[tenant] / weight for tenant, weight in weights.items()]) >= 0.99


def test_equal_tenants_get_equal_shares_whatever_the_size_of_their_tasks() -> None:
    total = 80_000
    backlog = {f"of {cost}": [cost] * (total // cost) for cost in (1, 10, 100, 1_000)}
    served = tokens_served(ReadyTasks(interactive_burst=8, shares={}), backlog, total=total)
    assert jain([float(tokens) for tokens in served.values()]) >= 0.99
    assert len(served) == 4


def test_splitting_work_into_many_jobs_and_tasks_gains_nothing() -> None:
    ready = ReadyTasks(interactive_burst=8, shares={"split": TenantShare(7.0), "whole": TenantShare(7.0)})
    backlog = {"split": [1] * 10_000, "whole": [1_000] * 10}
    served = tokens_served(ready, backlog, total=10_000, jobs=500)
    assert abs(served["split"] - served["whole"]) <= 1_000, "one task of the dearer"


def test_a_tenants_share_does_not_depend_on_how_many_others_are_idle() -> None:
    shares = {f"idle{i}": TenantShare(100.0) for i in range(1_000)}
    ready = ReadyTasks(interactive_burst=8, shares=shares)
    served = tokens_served(ready, {"a": [10] * 1_000, "b": [10] * 1_000}, total=10_000)
    assert served == {"a": 5_000, "b": 5_000}
