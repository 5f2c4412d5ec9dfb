"""The broker port: what any queue between the pools must promise.

The docstrings are the contract; `MemoryBroker` is the reference implementation and the oracle that
others are tested against. The broker never looks into a payload, never decides what a task means,
and may lose everything at any time: SQL is the truth and the reconciler re-offers what is missing.

Conservation holds at every step, per stage::

    enqueued = ready + leased + delayed + dead + done (acked, cancelled or dropped)

A task's way: `enqueue` makes it ready, `claim` leases it, and the lease ends in one of five ways: `ack`
(done), `retry_later` (delayed, ready again by `promote_due`), `hand_back` or `reap_expired` (ready),
`dead_letter` (dead, ready again by `requeue_dead`, done by `drop_dead`). Nothing moves by itself:
somebody calls `reap_expired` and `promote_due` every second or so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import Stage

MAX_COST = 1_000_000_000
"""Tokens of one task. With the range of weights it keeps fair queuing exact in doubles."""

MAX_CLAIM_TASKS = 1_000
"""A claim gives no more, however many are asked for: a broker that serves many may not be held up."""

MIN_WEIGHT = 0.01
MAX_WEIGHT = 100.0


class Lane(StrEnum):
    """`INTERACTIVE` (query embeddings) is claimed before `BULK`, within a bounded share."""

    BULK = "bulk"
    INTERACTIVE = "interactive"


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of queued work.

    `id` is unique within a stage and derived from what the task does, so offering it twice is
    harmless. `cost` is in tokens (1 to `MAX_COST`) and is what the tenant is charged. `priority` 0-100,
    higher first, counts only among tasks of the same tenant. InvalidRequest for values outside.
    """

    id: str
    tenant: str
    job_id: str
    cost: int
    payload: bytes
    priority: int = 50
    lane: Lane = Lane.BULK

    def __post_init__(self) -> None:
        if not (self.id and self.tenant and self.job_id):
            raise InvalidRequest(f"task {self.id!r}: id, tenant and job_id must not be empty")
        if not 1 <= self.cost <= MAX_COST:
            raise InvalidRequest(
                f"task {self.id!r}: cost is {self.cost} tokens; it must be 1 to {MAX_COST}, so split the work"
            )
        if not 0 <= self.priority <= 100:
            raise InvalidRequest(f"task {self.id!r}: priority is {self.priority}; it must be 0 to 100")


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed task.

    `fence` grows with every claim of a stage, so of two leases of a task the higher fence is the later.
    `attempt` counts this delivery (first: 1) and was recorded before the lease was handed out, so a
    crash cannot hide it. `expires_at` is the broker's time.
    """

    stage: Stage
    task: Task
    fence: int
    attempt: int
    expires_at: float


@dataclass(frozen=True, slots=True)
class DeadTask:
    """A task that was given up, with its payload kept. `attempt` is the delivery that gave it up."""

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
    """What a tenant may have of a stage, relative to others and at most.

    `weight` (`MIN_WEIGHT` to `MAX_WEIGHT`) is its share in fair queuing; `max_in_flight` (>= 1) caps its
    leased tasks per stage, both lanes together (None: no cap). InvalidRequest for values outside.
    """

    weight: float = 1.0
    max_in_flight: int | None = None

    def __post_init__(self) -> None:
        if not MIN_WEIGHT <= self.weight <= MAX_WEIGHT:
            raise InvalidRequest(
                f"tenant share: weight is {self.weight}; it must be {MIN_WEIGHT} to {MAX_WEIGHT}"
            )
        if self.max_in_flight is not None and self.max_in_flight < 1:
            raise InvalidRequest(
                f"tenant share: max_in_flight is {self.max_in_flight}; it must be at least 1, or None"
            )


class Broker(Protocol):
    """Queues for the stages. Every method is atomic; times are the broker's own clock, in seconds.

    Raises BrokerUnavailable when the queue cannot be reached or is closed, LeaseLost as said below, and
    InvalidRequest for arguments that can never be right (limits or counts < 1, a lease of no length,
    a negative delay); then nothing was changed.
    """

    async def set_share(self, tenant: str, share: TenantShare) -> None:
        """Set a tenant's weight and cap from now on. Tasks already served stay charged as they were.

        A tenant never set has weight 1 and no cap. A cap below what is leased takes nothing back.
        """
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
        """Take up to `max_tasks` (never more than `MAX_CLAIM_TASKS`) ready tasks, of at most `max_cost`
        tokens together, in order of service.

        The first task is given whatever it costs; the claim ends at the first that does not fit, which is
        then first in the next claim (passing it over would favour whoever has small tasks). Interactive
        tasks come first, but of any `interactive_burst` + 1 consecutive tasks served while bulk work is
        eligible at least one is bulk. In each lane, start-time fair queuing over eligible tenants
        (backlogged, below their cap); inside a tenant, higher priority first, then first in first out,
        where a task that comes back keeps its place. Every delivery is charged, a repeated one too: it
        is service given. Never waits: may be empty. `worker` names the holder in messages.
        """
        ...

    async def renew(self, leases: Iterable[Lease], *, lease_seconds: float) -> list[Lease]:
        """Extend leases from now; returns those that still hold, with the new `expires_at`.

        A lease missing from the answer is lost. A lease is expired at `expires_at` exactly, but holds
        until `reap_expired` takes it: renewing late is allowed as long as nobody else has the task.
        """
        ...

    async def ack(self, lease: Lease) -> None:
        """The task is finished, all its effects are durable. LeaseLost if the fence is stale.

        The id is forgotten: a second ack of the lease is LeaseLost too.
        """
        ...

    async def retry_later(
        self, lease: Lease, *, delay_seconds: float, reason: str, counted: bool = True
    ) -> None:
        """Give the task back, eligible again after the delay. LeaseLost if the fence is stale.

        It is due at now + `delay_seconds` exactly, and ready once `promote_due` finds it due.
        `counted=False` takes the attempt back: it failed for a reason that is not the task's own.
        `reason` is for the log.
        """
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
        """Make dead tasks ready again, attempts reset; returns how many were dead.

        They line up as if offered now, in the order given.
        """
        ...

    async def drop_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        """Forget dead tasks, payload too; returns how many were dead. They count as done from now on, and
        may be offered again. Tasks in any other state are left alone.
        """
        ...

    async def reap_expired(self, stage: Stage, *, limit: int = 1000) -> int:
        """End expired leases, longest expired first, and make their tasks ready again (attempt kept).

        Returns how many leases it ended.
        """
        ...

    async def promote_due(self, stage: Stage, *, limit: int = 1000) -> int:
        """Make delayed tasks whose time has come ready, longest due first; returns how many."""
        ...

    async def cancel_job(self, job_id: str) -> int:
        """Drop a job's ready and delayed tasks in every stage; returns how many.

        Leased ones run to their worker's next check; they may be acked but not come back: a retry, a
        hand-back or an expiry of a cancelled job's task drops it. Dead letters stay, as evidence. Tasks
        offered after the cancel are not affected: whoever offers them checks the job first.
        """
        ...

    async def known_jobs(self, job_ids: Collection[str]) -> set[str]:
        """Which of these jobs have a ready, leased or delayed task in any stage.

        Looks at the stages in the order of the pipeline, each at one instant. Whoever moves a job on
        enqueues downstream before the task upstream is acked, so a look that goes the same way cannot
        miss one that moves meanwhile; one that went backwards could.
        """
        ...

    async def depth(self, stage: Stage) -> Depth:
        """The stage's counts now."""
        ...

    async def backlog(self, stage: Stage, tenant: str) -> int:
        """How many tasks of one tenant are ready in the stage, over both lanes."""
        ...

    async def epoch(self) -> str:
        """Names this memory of the broker: another name later means that tasks may have been forgotten.

        Whoever sees it change offers again, and sets shares again, from SQL. It may change without a loss
        (a restart), never the other way round.
        """
        ...

    async def wait_for_ready(self, stage: Stage, *, timeout_seconds: float) -> bool:
        """Return True as soon as the stage may have a task to claim, False after the timeout.

        A hint: the caller claims and may still find nothing. A delayed task or an expired lease wakes
        nobody until `promote_due` or `reap_expired` has made it ready. BrokerUnavailable if the broker is
        closed meanwhile.
        """
        ...

    async def close(self) -> None:
        """Release connections. Later calls raise BrokerUnavailable, except `close`."""
        ...
