"""The state machine of `MemoryBroker`: the tasks of one stage, from offer to end. It has no clock."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from embedfleet.errors import LeaseLost
from embedfleet.queue.broker import DeadTask, Depth, Lane, Lease, QueuedTask, Task, TaskState, TenantShare
from embedfleet.queue.ready_tasks import ReadyTasks
from embedfleet.queue_schemas import Stage


@dataclass(slots=True, eq=False)
class _Entry:
    """A task that is ready, leased or delayed. It keeps its `sequence`, which is its place in line.

    `reason` and `due_at` are those of its last return for a later try.
    """

    task: Task
    sequence: int
    attempt: int = 0
    reason: str = ""
    due_at: float = 0.0

    @property
    def must_be_alone(self) -> bool:
        """Whether a claim with this task holds no other."""
        return self.task.alone or self.attempt > 0


@dataclass(slots=True, eq=False)
class _Held:
    """A leased entry. If its job was cancelled it is `doomed`: it must not become ready again."""

    entry: _Entry
    lease: Lease
    worker: str
    doomed: bool = False


class _Shelf:
    """The entries in one state, by task id, and the sum of their costs in tokens."""

    def __init__(self) -> None:
        self.cost = 0
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._entries

    def sequence_of(self, task_id: str) -> int | None:
        entry = self._entries.get(task_id)
        return None if entry is None else entry.sequence

    def entry_of(self, task_id: str) -> _Entry:
        return self._entries[task_id]

    def put(self, entry: _Entry) -> None:
        self._entries[entry.task.id] = entry
        self.cost += entry.task.cost

    def take(self, task_id: str) -> _Entry:
        entry = self._entries.pop(task_id)
        self.cost -= entry.task.cost
        return entry


class StageQueue:
    """The contract of `Broker` for one stage. `now` is passed in, and no method waits.

    A task is in exactly one of the states ready, leased, delayed and dead. Finished tasks are only counted,
    so memory is bounded by the unfinished and the dead ones.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        interactive_burst: int,
        shares: Mapping[str, TenantShare],
        fences: Iterator[int],
        deaths: Mapping[tuple[str, str], int],
    ) -> None:
        self._stage = stage
        self._deaths = deaths
        self._fences = fences
        self._sequences = count(1)
        self._order = ReadyTasks(interactive_burst=interactive_burst, shares=shares)
        self._ready = _Shelf()
        self._leased: dict[str, _Held] = {}
        self._delayed = _Shelf()
        # A heap of (due time, task id, sequence). The entry of a cancelled task stays until it is due. The
        # sequence distinguishes it from a later task with the same id.
        self._due: list[tuple[float, str, int]] = []
        self._dead: dict[str, DeadTask] = {}
        self._ids_of_job: defaultdict[str, set[str]] = defaultdict(set)
        self._enqueued = 0
        self._done = 0

    def has_claimable(self, lane: Lane | None) -> bool:
        """Whether a claim of this lane, or of both, made now, with no tenant passed over, returns a task."""
        return self._order.has_task(lane)

    def share_changed(self, tenant: str) -> None:
        self._order.share_changed(tenant)

    def enqueue(self, tasks: Sequence[Task]) -> int:
        before = self._enqueued
        for task in tasks:
            if not self._knows(task.id):
                self._enqueued += 1
                self._admit(task, attempt=self._deaths.get((self._stage.value, task.id), 0))
        return self._enqueued - before

    def claim(
        self,
        now: float,
        *,
        worker: str,
        max_tasks: int,
        max_cost: int,
        lease_seconds: float,
        passing_over: Collection[str],
        lane: Lane | None,
    ) -> list[Lease]:
        leases: list[Lease] = []
        cost_left = max_cost
        with self._order.serving(lane, passing_over=frozenset(passing_over)):
            while len(leases) < max_tasks:
                task = self._order.first()
                if task is None:
                    break
                alone = self._ready.entry_of(task.id).must_be_alone
                if leases and (alone or task.cost > cost_left):
                    break
                cost_left -= task.cost
                leases.append(self._lease_first(worker, now + lease_seconds))
                if alone:
                    break
        return leases

    def renew(self, lease: Lease, now: float, *, lease_seconds: float) -> Lease | None:
        """Extend the lease and return it; None if it is lost."""
        held = self._leased.get(lease.task.id)
        if held is None or held.lease.fence != lease.fence:
            return None
        held.lease = replace(held.lease, expires_at=now + lease_seconds)
        return held.lease

    def ack(self, lease: Lease) -> None:
        """Finish the task. Raises LeaseLost if the fence is stale."""
        self._finish(self._release(lease).entry.task)

    def retry_later(
        self, lease: Lease, now: float, *, delay_seconds: float, reason: str, counted: bool
    ) -> None:
        held = self._release(lease)
        if not counted:
            held.entry.attempt -= 1
        if held.doomed:
            self._finish(held.entry.task)
            return
        held.entry.reason, held.entry.due_at = reason, now + delay_seconds
        self._delayed.put(held.entry)
        heapq.heappush(self._due, (held.entry.due_at, held.entry.task.id, held.entry.sequence))

    def hand_back(self, lease: Lease) -> None:
        """Make the task ready again, uncounted. Raises LeaseLost if the fence is stale."""
        held = self._release(lease)
        held.entry.attempt -= 1
        self._return_to_line(held)

    def dead_letter(self, lease: Lease, now: float, *, reason: str) -> None:
        entry = self._release(lease).entry
        self._forget_job_of(entry.task)
        self._dead[entry.task.id] = DeadTask(entry.task, entry.attempt, reason, now)

    def dead(self, limit: int) -> list[DeadTask]:
        return list(islice(self._dead.values(), limit))

    def requeue_dead(self, task_ids: Sequence[str]) -> int:
        found = [self._dead.pop(task_id) for task_id in task_ids if task_id in self._dead]
        for dead in found:
            self._admit(dead.task)
        return len(found)

    def drop_dead(self, task_ids: Sequence[str]) -> int:
        dropped = sum(self._dead.pop(task_id, None) is not None for task_id in task_ids)
        self._done += dropped
        return dropped

    def reap_expired(self, now: float, *, limit: int) -> int:
        """End expired leases. This looks at every lease, as workers can hold only a small number of them."""
        expired = [held.lease for held in self._leased.values() if held.lease.expires_at <= now]
        expired.sort(key=lambda lease: (lease.expires_at, lease.task.id))
        for lease in expired[:limit]:
            self._return_to_line(self._release(lease))
        return min(len(expired), limit)

    def promote_due(self, now: float, *, limit: int) -> int:
        promoted = 0
        while promoted < limit and self._due and self._due[0][0] <= now:
            _, task_id, sequence = heapq.heappop(self._due)
            if self._delayed.sequence_of(task_id) == sequence:
                self._make_ready(self._delayed.take(task_id))
                promoted += 1
        return promoted

    def cancel_job(self, job_id: str) -> int:
        dropped = 0
        for task_id in list(self._ids_of_job.get(job_id, ())):
            if task_id in self._leased:
                self._leased[task_id].doomed = True
                continue
            self._finish(self._take_unleased(task_id).task)
            dropped += 1
        return dropped

    def knows_job(self, job_id: str) -> bool:
        """Whether the job has a ready, leased or delayed task in this stage."""
        return job_id in self._ids_of_job

    def tasks_of(self, job_id: str, now: float, *, limit: int) -> list[QueuedTask]:
        ids = sorted(self._ids_of_job.get(job_id, ()))
        return [self._described(task_id, now) for task_id in ids[:limit]]

    def _described(self, task_id: str, now: float) -> QueuedTask:
        if task_id in self._leased:
            entry = self._leased[task_id].entry
            return QueuedTask(task_id, TaskState.LEASED, entry.attempt, entry.reason)
        if task_id in self._delayed:
            entry = self._delayed.entry_of(task_id)
            seconds = max(0.0, entry.due_at - now)
            return QueuedTask(task_id, TaskState.DELAYED, entry.attempt, entry.reason, seconds=seconds)
        entry = self._ready.entry_of(task_id)
        ahead = self._order.ahead_of(entry.task, entry.sequence)
        return QueuedTask(task_id, TaskState.READY, entry.attempt, entry.reason, ahead=ahead)

    def depth(self) -> Depth:
        return Depth(
            ready=len(self._ready),
            leased=len(self._leased),
            delayed=len(self._delayed),
            dead=len(self._dead),
            done=self._done,
            enqueued=self._enqueued,
            ready_cost=self._ready.cost,
            leased_cost=sum(held.entry.task.cost for held in self._leased.values()),
            delayed_cost=self._delayed.cost,
        )

    def crowded(self, tenants: Collection[str], *, max_tasks: int, max_cost: int) -> set[str]:
        total = self._order.total_weight
        return {
            tenant
            for tenant in tenants
            if self._order.work_of(tenant).fills_its_share(total, max_tasks=max_tasks, max_cost=max_cost)
        }

    def _knows(self, task_id: str) -> bool:
        return (
            task_id in self._ready
            or task_id in self._leased
            or task_id in self._delayed
            or task_id in self._dead
        )

    def _admit(self, task: Task, *, attempt: int = 0) -> None:
        self._ids_of_job[task.job_id].add(task.id)
        self._make_ready(_Entry(task, next(self._sequences), attempt))

    def _make_ready(self, entry: _Entry) -> None:
        self._ready.put(entry)
        self._order.add(entry.task, entry.sequence)

    def _lease_first(self, worker: str, expires_at: float) -> Lease:
        task = self._order.serve_first()
        entry = self._ready.take(task.id)
        entry.attempt += 1
        lease = Lease(self._stage, task, next(self._fences), entry.attempt, expires_at)
        self._leased[task.id] = _Held(entry, lease, worker)
        return lease

    def _release(self, lease: Lease) -> _Held:
        """End the lease; the caller decides about the entry. Raises LeaseLost if the fence is stale."""
        task = lease.task
        held = self._leased.get(task.id)
        if held is None:
            raise LeaseLost(
                f"{self._stage} task {task.id!r}: fence {lease.fence} is stale, no worker holds the task "
                "now; drop the result"
            )
        if held.lease.fence != lease.fence:
            raise LeaseLost(
                f"{self._stage} task {task.id!r}: fence {lease.fence} is stale, worker {held.worker!r} holds "
                f"fence {held.lease.fence}; drop the result"
            )
        del self._leased[task.id]
        return held

    def _return_to_line(self, held: _Held) -> None:
        if held.doomed:
            self._finish(held.entry.task)
        else:
            self._make_ready(held.entry)

    def _take_unleased(self, task_id: str) -> _Entry:
        if task_id in self._delayed:
            return self._delayed.take(task_id)
        entry = self._ready.take(task_id)
        self._order.discard(entry.task, entry.sequence)
        return entry

    def _finish(self, task: Task) -> None:
        self._forget_job_of(task)
        self._done += 1

    def _forget_job_of(self, task: Task) -> None:
        ids = self._ids_of_job[task.job_id]
        ids.discard(task.id)
        if not ids:
            del self._ids_of_job[task.job_id]
