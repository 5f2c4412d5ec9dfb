"""The ready tasks of one stage in their order of service: first by lane, then by tenant, then by priority."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping

from embedfleet.queue.broker import Lane, Task, TenantShare
from embedfleet.queue.fair_queue import FairQueue

_DEFAULT_SHARE = TenantShare()


class ReadyTasks:
    """Decides which task is served next, and charges the tenants for the tasks served.

    Each lane is a fair queue of its own. The interactive lane goes first. But when `interactive_burst` of its
    tasks were served in a row while bulk work was eligible, the next task is a bulk task. A tenant's tasks in
    flight are counted over both lanes; at its cap the tenant leaves both.

    `shares` is read at every decision. The caller that changes an entry calls `share_changed`.
    """

    def __init__(self, *, interactive_burst: int, shares: Mapping[str, TenantShare]) -> None:
        self._interactive_burst = interactive_burst
        self._shares = shares
        self._interactive = _LaneQueue()
        self._bulk = _LaneQueue()
        self._lanes = {Lane.INTERACTIVE: self._interactive, Lane.BULK: self._bulk}
        self._interactive_in_a_row = 0
        self._in_flight: Counter[str] = Counter()

    def add(self, task: Task, sequence: int) -> None:
        """Let the task be served. `sequence` is its place among its tenant's tasks of equal priority."""
        lane = self._lanes[task.lane]
        lane.add(task, sequence)
        if not self._at_cap(task.tenant):
            lane.fair.enter(task.tenant)

    def discard(self, task: Task, sequence: int) -> None:
        """Remove a task that was added and not served; its tenant is not charged."""
        self._lanes[task.lane].discard(task, sequence)

    def backlog(self, tenant: str) -> int:
        """Return how many of the tenant's tasks wait here."""
        return sum(lane.backlog(tenant) for lane in self._lanes.values())

    def first(self) -> Task | None:
        """Return the task to serve next; None if no tenant with work is below its cap."""
        return self._next_lane().first()

    def serve_first(self) -> Task:
        """Remove and return the first task, charge its tenant, and count it in flight until `finished`."""
        lane = self._next_lane()
        task = lane.first()
        if task is None:
            raise LookupError("no task is ready to be served")
        self._count_burst(lane)
        lane.serve(task, self._share(task.tenant).weight)
        self._in_flight[task.tenant] += 1
        self.share_changed(task.tenant)
        return task

    def finished(self, tenant: str) -> None:
        """Count one task of the tenant less in flight, because its lease ended in any way."""
        self._in_flight[tenant] -= 1
        if not self._in_flight[tenant]:
            del self._in_flight[tenant]
        self.share_changed(tenant)

    def share_changed(self, tenant: str) -> None:
        """Make the tenant eligible or not, after a change of its cap or of its tasks in flight."""
        at_cap = self._at_cap(tenant)
        for lane in self._lanes.values():
            if at_cap:
                lane.fair.leave(tenant)
            elif lane.has_work_of(tenant):
                lane.fair.enter(tenant)

    def _next_lane(self) -> _LaneQueue:
        if self._interactive.first() is None:
            return self._bulk
        bulk_is_due = self._interactive_in_a_row >= self._interactive_burst
        return self._bulk if bulk_is_due and self._bulk.first() is not None else self._interactive

    def _count_burst(self, served: _LaneQueue) -> None:
        """Count interactive tasks in a row.

        Tasks that are served while no bulk work is eligible do not count, because no bulk task waits then.
        """
        if served is self._interactive and self._bulk.first() is not None:
            self._interactive_in_a_row += 1
        else:
            self._interactive_in_a_row = 0

    def _share(self, tenant: str) -> TenantShare:
        return self._shares.get(tenant, _DEFAULT_SHARE)

    def _at_cap(self, tenant: str) -> bool:
        cap = self._share(tenant).max_in_flight
        return cap is not None and self._in_flight[tenant] >= cap


class _LaneQueue:
    """One lane: each tenant's backlog, and the fair order of the tenants that may be served."""

    def __init__(self) -> None:
        self.fair = FairQueue()
        self._backlogs: dict[str, _Backlog] = {}

    def backlog(self, tenant: str) -> int:
        return len(self._backlogs.get(tenant, ()))

    def has_work_of(self, tenant: str) -> bool:
        return tenant in self._backlogs

    def add(self, task: Task, sequence: int) -> None:
        self._backlogs.setdefault(task.tenant, _Backlog()).add(task, sequence)

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
