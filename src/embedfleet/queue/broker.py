"""The broker port: what any queue between the pools must promise.

The docstrings are the contract; `MemoryBroker` is the reference implementation and the oracle that
others are tested against. The broker never looks into a payload, never decides what a task means,
and may lose everything at any time: SQL is the truth and the reconciler re-offers what is missing.

Conservation holds at every step, per stage::

    enqueued = ready + leased + delayed + dead + done (acked or cancelled)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from embedfleet.queue_schemas import Stage


class Lane(StrEnum):
    """`INTERACTIVE` (query embeddings) is claimed before `BULK`, within a bounded share."""

    BULK = "bulk"
    INTERACTIVE = "interactive"


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of queued work.

    `id` is unique within a stage and derived from what the task does, so offering it twice is
    harmless. `cost` is in tokens (>= 1) and is what the tenant is charged. `priority` 0-100, higher
    first, counts only among tasks of the same tenant.
    """

    id: str
    tenant_id: str
    job_id: str
    cost: int
    payload: bytes
    priority: int = 50
    lane: Lane = Lane.BULK


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed task. `fence` only ever grows within a broker; `attempt` counts this delivery (first: 1)
    and was recorded before the lease was handed out, so a crash cannot hide it."""

    stage: Stage
    task: Task
    fence: int
    attempt: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class DeadTask:
    """A task that was given up, with its payload kept."""

    task: Task
    attempt: int
    reason: str
    died_at: float


@dataclass(frozen=True, slots=True)
class Depth:
    """Counts of one stage at one instant. `*_cost` in tokens."""

    ready: int = 0
    leased: int = 0
    delayed: int = 0
    dead: int = 0
    done: int = 0
    enqueued: int = 0
    ready_cost: int = 0
    leased_cost: int = 0
    delayed_cost: int = 0


@dataclass(frozen=True, slots=True)
class TenantShare:
    """A tenant's weight (> 0) in fair queuing and its cap of leased tasks per stage (None: no cap)."""

    weight: float = 1.0
    max_in_flight: int | None = None


class Broker(Protocol):
    """Queues for the stages. Every method is atomic; times are the broker's own clock, in seconds.

    Raises BrokerUnavailable when the queue cannot be reached, LeaseLost as said below, and
    InvalidRequest for arguments that can never be right (cost < 1, priority outside 0-100,
    negative delay).
    """

    async def set_share(self, tenant_id: str, share: TenantShare) -> None:
        """Set a tenant's weight and cap from now on. Tasks already served stay charged as they were."""
        ...

    async def enqueue(self, stage: Stage, tasks: Sequence[Task]) -> int:
        """Offer tasks; returns how many were new.

        A task whose id is ready, leased, delayed or dead in this stage is ignored. One that was acked
        or cancelled may be offered again and counts as new.
        """
        ...

    async def claim(
        self, stage: Stage, *, worker: str, max_tasks: int, max_cost: int, lease_seconds: float
    ) -> list[Lease]:
        """Take up to `max_tasks` ready tasks, of at most `max_cost` tokens together.

        The first task is given whatever it costs. Interactive tasks come first, but of any
        `interactive_burst` + 1 consecutive tasks served while bulk work is eligible at least one is bulk.
        Bulk tasks follow start-time fair queuing over eligible tenants (backlogged, below their cap);
        inside a tenant, higher priority first, then first in first out. Never waits: may be empty.
        """
        ...

    async def renew(self, leases: Iterable[Lease], *, lease_seconds: float) -> list[Lease]:
        """Extend leases from now; returns those that still hold, with the new `expires_at`.

        A lease missing from the answer is lost. A lease is expired at `expires_at` exactly, but holds
        until `reap_expired` takes it: renewing late is allowed as long as nobody else has the task.
        """
        ...

    async def ack(self, lease: Lease) -> None:
        """The task is finished, all its effects are durable. LeaseLost if the fence is stale."""
        ...

    async def retry_later(self, lease: Lease, *, delay_seconds: float, reason: str) -> None:
        """Give the task back, eligible again after the delay. LeaseLost if the fence is stale."""
        ...

    async def hand_back(self, lease: Lease) -> None:
        """Give an unstarted task back at once, the attempt not counted (shutdown). LeaseLost if stale."""
        ...

    async def dead_letter(self, lease: Lease, *, reason: str) -> None:
        """Give the task up, payload kept. LeaseLost if the fence is stale."""
        ...

    async def dead(self, stage: Stage, *, limit: int = 100) -> list[DeadTask]:
        """The dead letters of a stage, oldest first."""
        ...

    async def requeue_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        """Make dead tasks ready again, attempts reset; returns how many were dead."""
        ...

    async def reap_expired(self, stage: Stage, *, limit: int = 1000) -> int:
        """Make tasks of expired leases ready again (attempt kept); returns how many."""
        ...

    async def promote_due(self, stage: Stage, *, limit: int = 1000) -> int:
        """Make delayed tasks whose time has come ready; returns how many."""
        ...

    async def cancel_job(self, job_id: str) -> int:
        """Drop a job's ready and delayed tasks in every stage; returns how many.

        Leased ones run to their worker's next check; they may be acked but not come back: a retry or
        an expiry of a cancelled job's task drops it.
        """
        ...

    async def depth(self, stage: Stage) -> Depth:
        """The stage's counts now."""
        ...

    async def wait_for_ready(self, stage: Stage, *, timeout_seconds: float) -> bool:
        """Return True as soon as the stage may have a task to claim, False after the timeout.

        A hint: the caller claims and may still find nothing.
        """
        ...

    async def close(self) -> None:
        """Release connections. Later calls raise BrokerUnavailable."""
        ...
