"""When a tenant fills its share of a stage's room."""

from __future__ import annotations

import pytest

from embedfleet.queue.room import ReadyWork

HALF = {"weight": 2_000_000}
TOTAL = 4_000_000
HUGE = 10**15


@pytest.mark.parametrize(
    ("work", "max_tasks", "max_cost", "full"),
    [
        (ReadyWork(tasks=0, cost=0, **HALF), 1, 1, False),
        (ReadyWork(tasks=4, cost=49, **HALF), 10, 100, False),
        (ReadyWork(tasks=5, cost=49, **HALF), 10, 100, True),
        (ReadyWork(tasks=4, cost=50, **HALF), 10, 100, True),
        (ReadyWork(tasks=1, cost=1, **HALF), 1, 100, True),
        (ReadyWork(tasks=5, cost=1, **HALF), 11, 100, False),
        (ReadyWork(tasks=1, cost=HUGE, **HALF), 10, 2 * HUGE, True),
        (ReadyWork(tasks=1, cost=HUGE, **HALF), 10, 2 * HUGE + 1, False),
    ],
)
def test_a_share_is_full_from_its_last_task_or_token_on(
    work: ReadyWork, max_tasks: int, max_cost: int, full: bool
) -> None:
    assert work.fills_its_share(TOTAL, max_tasks=max_tasks, max_cost=max_cost) == full
