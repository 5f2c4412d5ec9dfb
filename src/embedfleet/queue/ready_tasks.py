"""The ready tasks of one stage in their order of service: first by lane, then by tenant, then by priority."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager

from embedfleet.queue.broker import Lane, Task, TenantShare
from embedfleet.queue.fair_queue import FairQueue, millionths
from embedfleet.queue.room import ReadyWork

_DEFAULT_SHARE = TenantShare()


class ReadyTasks:
    """Decides which task is served next, and charges the tenants for the tasks served.

    Each lane is a fair queue of its own. The interactive lane goes first. But when `interactive_burst` of its
    tasks were served in a row while bulk work was eligible, the next task is a bulk task.

    `shares` is read at every decision. The caller that changes an entry calls `share_changed`.
    """

    def __init__(self, *, interactive_burst: int, shares: Mapping[str, TenantShare]) -> None:
        self._interactive_burst = interactive_burst
        self._shares = shares
        self._interactive = _LaneQueue()
        self._bulk = _LaneQueue()
        self._lanes = {Lane.INTERACTIVE: self._interactive, Lane.BULK: self._bulk}
        self._interactive_in_a_row = 0
        self._only: _LaneQueue | None = None  # the lane that the claim under way serves, if it names one
        # The tenants with ready tasks, both lanes together: the tokens of these tasks, and the tenant's
        # weight in millionths. `_total_weight` is the sum of these weights.
        self._costs: dict[str, int] = {}
        self._weights: dict[str, int] = {}
        self._total_weight = 0

    def add(self, task: Task, sequence: int) -> None:
        """Let the task be served. `sequence` is its place among its tenant's tasks of equal priority."""
        self._lanes[task.lane].add(task, sequence)
        tenant = task.tenant
        if tenant not in self._costs:
            self._costs[tenant] = 0
            self._count_weight(tenant)
        self._costs[tenant] += task.cost

    def discard(self, task: Task, sequence: int) -> None:
        """Remove a task that was added and not served; its tenant is not charged."""
        self._lanes[task.lane].discard(task, sequence)
        self._took(task)

    def ahead_of(self, task: Task, sequence: int) -> int:
        """Count the tasks of its tenant and lane that are served before this one, which was added."""
        return self._lanes[task.lane].ahead_of(task, sequence)

    def work_of(self, tenant: str) -> ReadyWork:
        """Return how much of the tenant's work waits here, and its weight."""
        return ReadyWork(
            tasks=sum(lane.tasks_of(tenant) for lane in self._lanes.values()),
            cost=self._costs.get(tenant, 0),
            weight=self._weights.get(tenant, 0),
        )

    @property
    def total_weight(self) -> int:
        """The weights of all tenants with ready tasks together, in millionths."""
        return self._total_weight

    @contextmanager
    def serving(self, only: Lane | None, *, passing_over: Set[str]) -> Iterator[None]:
        """Inside the block, serve `only` this lane, and none of these tenants. Change no tasks there."""
        self._only = None if only is None else self._lanes[only]
        for lane in self._lanes.values():
            lane.fair.pass_over(passing_over)
        try:
            yield
        finally:
            self._only = None
            for lane in self._lanes.values():
                lane.fair.take_back()

    def has_task(self, lane: Lane | None) -> bool:
        """Whether a task is ready, in this lane or in any."""
        lanes = self._lanes.values() if lane is None else [self._lanes[lane]]
        return any(each.first() is not None for each in lanes)

    def first(self) -> Task | None:
        """Return the task to serve next; None if no tenant that may be served has work."""
        return self._next_lane().first()

    def serve_first(self) -> Task:
        """Remove and return the first task, and charge its tenant."""
        lane = self._next_lane()
        task = lane.first()
        if task is None:
            raise LookupError("no task is ready to be served")
        self._count_burst(lane)
        lane.serve(task, self._weight_of(task.tenant))
        self._took(task)
        return task

    def share_changed(self, tenant: str) -> None:
        """Count the tenant's new weight, if it has ready tasks."""
        if tenant in self._weights:
            self._total_weight -= self._weights[tenant]
            self._count_weight(tenant)

    def _took(self, task: Task) -> None:
        """Count a task less that was ready, and its tenant's weight if this was its last ready task."""
        tenant = task.tenant
        self._costs[tenant] -= task.cost
        if not self._costs[tenant]:  # every task costs at least one token, so none is left
            del self._costs[tenant]
            self._total_weight -= self._weights.pop(tenant)

    def _count_weight(self, tenant: str) -> None:
        weight = self._weights[tenant] = millionths(self._weight_of(tenant))
        self._total_weight += weight

    def _next_lane(self) -> _LaneQueue:
        if self._only is not None:
            return self._only
        if self._interactive.first() is None:
            return self._bulk
        bulk_is_due = self._interactive_in_a_row >= self._interactive_burst
        return self._bulk if bulk_is_due and self._bulk.first() is not None else self._interactive

    def _count_burst(self, served: _LaneQueue) -> None:
        """Count interactive tasks in a row.

        Tasks that are served while no bulk work is eligible do not count, because no bulk task waits then. A
        claim of one lane has no part in the order of both.
        """
        if self._only is not None:
            return
        if served is self._interactive and self._bulk.first() is not None:
            self._interactive_in_a_row += 1
        else:
            self._interactive_in_a_row = 0

    def _weight_of(self, tenant: str) -> float:
        return self._shares.get(tenant, _DEFAULT_SHARE).weight


class _LaneQueue:
    """One lane: each tenant's backlog, and the fair order of the tenants that have one."""

    def __init__(self) -> None:
        self.fair = FairQueue()
        self._backlogs: dict[str, _Backlog] = {}

    def tasks_of(self, tenant: str) -> int:
        return len(self._backlogs.get(tenant, ()))

    def ahead_of(self, task: Task, sequence: int) -> int:
        return self._backlogs[task.tenant].ahead_of(task, sequence)

    def add(self, task: Task, sequence: int) -> None:
        backlog = self._backlogs.get(task.tenant)
        if backlog is None:
            backlog = self._backlogs[task.tenant] = _Backlog()
            self.fair.enter(task.tenant)
        backlog.add(task, sequence)

    def discard(self, task: Task, sequence: int) -> None:
        self._backlogs[task.tenant].discard(sequence)
        self._drop_if_empty(task.tenant)

    def first(self) -> Task | None:
        tenant = self.fair.first()
        return None if tenant is None else self._backlogs[tenant].first()

    def serve(self, first: Task, weight: float) -> None:
        self._backlogs[first.tenant].pop_first()
        self.fair.charge(first.cost, weight)
        self._drop_if_empty(first.tenant)

    def _drop_if_empty(self, tenant: str) -> None:
        if not self._backlogs[tenant]:
            del self._backlogs[tenant]
            self.fair.leave(tenant)


class _Backlog:
    """One tenant's tasks in one lane: the highest priority first, then the lowest sequence."""

    def __init__(self) -> None:
        self._tasks: dict[int, Task] = {}
        # (-priority, sequence). The entry of a discarded task stays until it comes to the top.
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task, sequence: int) -> None:
        self._tasks[sequence] = task
        heapq.heappush(self._heap, (-task.priority, sequence))

    def ahead_of(self, task: Task, sequence: int) -> int:
        mine = (-task.priority, sequence)
        return sum((-other.priority, place) < mine for place, other in self._tasks.items())

    def discard(self, sequence: int) -> None:
        del self._tasks[sequence]
        # More than half of the heap is stale: rebuild it (see `FairQueue._place` for the numbers).
        if len(self._heap) > 2 * len(self._tasks) + 8:
            self._heap = [(-task.priority, sequence) for sequence, task in self._tasks.items()]
            heapq.heapify(self._heap)

    def first(self) -> Task:
        while self._heap[0][1] not in self._tasks:
            heapq.heappop(self._heap)
        return self._tasks[self._heap[0][1]]

    def pop_first(self) -> None:
        self.first()  # drops stale entries, so that the first task's entry is at the top
        del self._tasks[heapq.heappop(self._heap)[1]]
