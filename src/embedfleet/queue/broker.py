"""The broker port: the promises of every queue between the pools.

The docstrings are the contract. `MemoryBroker` is the reference implementation: other brokers are tested
against it. A broker never looks into a payload and never decides what a task means. It may lose everything
at any time: SQL is the truth, and the reconciler offers missing tasks again.

Conservation holds at every step, per stage::

    enqueued = ready + leased + delayed + dead + done (acked, cancelled or dropped)

A broker may divide a stage into shards, by the ids of the tasks. What is promised of the order of service, of
bursts and of tasks that are alone holds then within each shard, and claims take the shards in turn.

A task's life: `enqueue` makes it ready, and `claim` leases it. The lease ends in one of five ways: `ack`
(done), `retry_later` (delayed, ready again by `promote_due`), `hand_back` or `reap_expired` (ready),
`dead_letter` (dead, ready again by `requeue_dead`, done by `drop_dead`). No task moves by itself: a service
of the leader calls `reap_expired` and `promote_due` about once a second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import Stage

MAX_COST = 1_000_000_000
"""The most tokens that one task may cost. Together with the range of weights, this limit keeps the numbers of
fair queuing below 2**53, so they are exact in doubles."""

MAX_CLAIM_TASKS = 1_000
"""The most tasks that one claim returns, even if the caller asks for more: a long claim would hold up the
broker's other callers."""

MIN_WEIGHT = 0.01
MAX_WEIGHT = 100.0


class Lane(StrEnum):
    """`INTERACTIVE` tasks (query embeddings) are claimed before `BULK` tasks, up to a bounded share."""

    BULK = "bulk"
    INTERACTIVE = "interactive"


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of queued work.

    `id` is unique within a stage. It is derived from what the task does, so offering the task twice is
    harmless. `cost` is what the tenant is charged, in tokens (1 to `MAX_COST`). `priority` is 0 to 100,
    higher first, and orders only tasks of the same tenant. `alone`: no claim holds another task beside it,
    from its first delivery on. Raises InvalidRequest for a value outside its range.
    """

    id: str
    tenant: str
    job_id: str
    cost: int
    payload: bytes
    priority: int = 50
    lane: Lane = Lane.BULK
    alone: bool = False

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

    `fence` grows with every claim of a shard, so of two leases of a task in one shard the one with the higher
    fence is the later. Those of two shards cannot be compared: each follows the clock of its own server, and
    a task that was done may be offered to another shard. `attempt` is the number of this delivery, from 1.
    The broker records it before it returns the lease, so a crash of the worker cannot hide the attempt.
    `expires_at` is in the broker's time. `shard` is where the broker keeps the task.
    """

    stage: Stage
    task: Task
    fence: int
    attempt: int
    expires_at: float
    shard: int = 0


@dataclass(frozen=True, slots=True)
class DeadTask:
    """A task that a worker gave up; its payload is kept. `attempt` is the number of its last delivery."""

    task: Task
    attempt: int
    reason: str
    died_at: float


class TaskState(StrEnum):
    """Where an unfinished task is."""

    READY = "ready"
    LEASED = "leased"
    DELAYED = "delayed"


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """An unfinished task as its queue has it, without its payload.

    `attempt` counts its deliveries. `reason` says why it was given back for a later try, the last time; empty
    if it never was. `ahead`, of a ready task, counts the tenant's ready tasks of its lane that go first, in
    its shard. `seconds`, of a delayed task, is the time until it is due; 0 if it is due already.
    """

    id: str
    state: TaskState
    attempt: int
    reason: str
    ahead: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """The counts of one stage. The fields `*_cost` are in tokens.

    Those of a shard are of one instant, and the sum conserves tasks, as each shard does. `done` and
    `enqueued` are of the shards in use: they fall when a lower number of shards has become final.
    """

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
    """How much of a stage a tenant gets, relative to the other tenants that have ready tasks there.

    `weight` is `MIN_WEIGHT` to `MAX_WEIGHT`. Raises InvalidRequest for a value outside this range.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not MIN_WEIGHT <= self.weight <= MAX_WEIGHT:
            raise InvalidRequest(
                f"tenant share: weight is {self.weight}; it must be {MIN_WEIGHT} to {MAX_WEIGHT}"
            )


class Broker(Protocol):
    """Queues for the stages. Every method is atomic. Times are by the broker's own clock, in seconds.

    Every method raises BrokerUnavailable when the broker cannot be reached or is closed. It raises
    InvalidRequest for an argument that can never be right (a limit or a count < 1, a lease of no length, a
    negative delay), and has then changed nothing. `retry_later` and `dead_letter` raise LeaseLost if the
    fence of their lease is stale; `ack` and `hand_back`, which take many leases, return those that are lost.
    """

    @property
    def mailbox(self) -> str:
        """The name of the mailbox of this process, in every stage. No other process ever has it."""
        ...

    @property
    def shards(self) -> int:
        """How many shards of a stage may hold tasks, as far as this process knows: one or more.

        A call that concerns a whole stage costs a call of each.
        """
        ...

    async def set_shares(self, shares: Mapping[str, TenantShare]) -> None:
        """Set the weights of these tenants from now on. The charges for tasks already served do not change.

        A tenant without a share has weight 1.
        """
        ...

    async def enqueue(self, stage: Stage, tasks: Sequence[Task]) -> int:
        """Offer tasks. Returns how many of them were new.

        The broker ignores a task whose id is ready, leased, delayed or dead in this stage. A task that was
        acked or cancelled may be offered again and counts as new.
        """
        ...

    async def claim(
        self,
        stage: Stage,
        *,
        worker: str,
        max_tasks: int,
        max_cost: int,
        lease_seconds: float,
        passing_over: Collection[str] = (),
        lane: Lane | None = None,
    ) -> list[Lease]:
        """Take up to `max_tasks` (never more than `MAX_CLAIM_TASKS`) ready tasks, of at most `max_cost`
        tokens together, in order of service.

        The first task is returned whatever it costs. The claim ends at the first task that does not fit; that
        task is then the first of the next claim (to skip it would favour tenants with small tasks).

        A task that counts a delivery already may have killed its worker, so it is claimed alone, as is a task
        that asks for it (`Task.alone`). A claim that begins with such a task holds nothing else, and any
        other claim ends before it. So a worker never holds two of them, and gives none back that it could not
        try: each return would be charged, and the others would wait longer for their turn.

        Interactive tasks come first. But of any `interactive_burst` + 1 consecutive tasks that are served
        while bulk work is eligible, at least one is bulk. Each lane serves its eligible tenants by start-time
        fair queuing. A tenant is eligible exactly while it has ready tasks in the lane. Within a tenant,
        higher priority comes first, then first in, first out; a task that becomes ready again keeps its
        place. Every delivery is charged, a repeated one too, because it is service given.

        The tenants in `passing_over` are not eligible for this one claim; the others are served in their
        order. A tenant earns no credit by it: after the claim its virtual start is at least the lane's
        virtual time, as if it had just come. The debts of all tenants stay. While two tenants both have ready
        tasks and neither is passed over, the bound of fair queuing holds between them.

        With a `lane`, the claim serves this lane only, whatever waits in the other one. Its tasks do not
        count for the bound of `interactive_burst`, which is of claims that serve both lanes.

        It never waits, so the list may be empty. `worker` names the holder in messages. Shards that are away
        are left out; BrokerUnavailable is raised if none answers. A claim that is cancelled hands back what
        it has.
        """
        ...

    async def renew(self, leases: Iterable[Lease], *, lease_seconds: float) -> list[Lease]:
        """Extend leases from now. Returns those that still hold, with their new `expires_at`.

        A lease that is missing from the result is lost. A lease is expired from `expires_at` on, but it holds
        until `reap_expired` ends it: a worker may renew late as long as no other worker has the task.
        """
        ...

    async def ack(self, leases: Sequence[Lease]) -> list[Lease]:
        """Finish tasks whose effects are all durable. Returns the leases that are lost, in the order given.

        A lease is lost if its fence is stale: it changes nothing, and its result is dropped. All others are
        done. The broker forgets the id of a finished task, so a second ack of the same lease is lost too.
        """
        ...

    async def retry_later(
        self, lease: Lease, *, delay_seconds: float, reason: str, counted: bool = True
    ) -> None:
        """Give the task back, to be tried again after the delay. Raises LeaseLost if the fence is stale.

        The task is due at now + `delay_seconds` exactly, and ready when `promote_due` finds it due.
        `counted=False` takes the attempt back, for a failure whose cause is not the task itself. `reason` is
        for people: in the log, and in `tasks_of`.
        """
        ...

    async def hand_back(self, leases: Sequence[Lease]) -> list[Lease]:
        """Make leased tasks that were not begun ready again at once, and take their attempts back.

        Returns the leases that are lost, in the order given. They change nothing; all others are done.
        """
        ...

    async def dead_letter(self, lease: Lease, *, reason: str) -> None:
        """Give the task up and keep its payload. Raises LeaseLost if the fence is stale."""
        ...

    async def dead(self, stage: Stage, *, limit: int = 100) -> list[DeadTask]:
        """Return up to `limit` dead tasks of a stage, oldest first."""
        ...

    async def requeue_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        """Make dead tasks ready again and reset their attempts. Returns how many of them were dead.

        They queue in the order given, behind the tasks offered before.
        """
        ...

    async def drop_dead(self, stage: Stage, task_ids: Sequence[str]) -> int:
        """Forget dead tasks and their payloads. Returns how many of them were dead.

        They count as done from now on, and may be offered again. Tasks in any other state are left alone.
        """
        ...

    async def reap_expired(self, stage: Stage, *, limit: int = 1000) -> int:
        """End up to `limit` expired leases, longest expired first, and make their tasks ready again.

        The attempts stay counted. Returns how many leases it ended. Where a stage has shards, `limit` is of
        each. If a shard is away, the others are done before BrokerUnavailable is raised.
        """
        ...

    async def promote_due(self, stage: Stage, *, limit: int = 1000) -> int:
        """Make up to `limit` due tasks ready, those that are due longest first. Returns how many.

        Shards are as in `reap_expired`.
        """
        ...

    async def cancel_job(self, job_id: str) -> int:
        """Drop a job's ready and delayed tasks in every stage. Returns how many.

        Its leased tasks run until their worker looks at the job again. They may be acked, but they do not
        become ready again: a retry, a hand-back or an expiry drops them. Dead tasks stay, as evidence. Tasks
        that are offered after the cancel are not affected: their offerer checks the job first.
        """
        ...

    async def known_jobs(self, job_ids: Collection[str]) -> set[str]:
        """Return which of these jobs have a ready, leased or delayed task in any stage.

        The broker looks at the stages in the order of the pipeline, at each shard of a stage at one instant.
        The order matters: a worker enqueues a job's task in the next stage before it acks the task of its own
        stage. So a look in this order cannot miss a job that moves during the look; a look in the reverse
        order could. A stage of several shards is looked at twice, for tasks that move between these.
        """
        ...

    async def tasks_of(self, stage: Stage, job_id: str, *, limit: int = 100) -> list[QueuedTask]:
        """Return up to `limit` (never more than 1,000) ready, leased and delayed tasks of a job in a stage.

        They are in the order of their ids.
        """
        ...

    async def depth(self, stage: Stage) -> Depth:
        """Return the counts of the stage. Raises BrokerUnavailable if a shard is away."""
        ...

    async def check_writes(self, stage: Stage) -> None:
        """Raise BrokerUnavailable if this stage takes no writes now, although it may still be read.

        It changes nothing, so it may be called every second.
        """
        ...

    async def crowded(
        self, stage: Stage, tenants: Collection[str], *, max_tasks: int, max_cost: int
    ) -> set[str]:
        """Return which of these tenants have filled their share of a stage's room for ready tasks.

        The room is `max_tasks` tasks and `max_cost` tokens, in both lanes together. A tenant's share of it is
        its weight divided by the weights of all tenants that have ready tasks in the stage, this one
        included. The tenant is crowded if its ready tasks, or their tokens, are at least its share. So a
        tenant alone may fill the room. If all tenants fill their shares, the queue holds tokens in proportion
        to the weights. A tenant without a ready task is never crowded. In a stage of several shards each has
        the room, and a tenant is crowded if it fills its share, on average, of those in which it has tasks.
        """
        ...

    async def epoch(self) -> str:
        """Return the name of the broker's present memory.

        It is a list of the names of the parts of the memory, with commas. If one of them is not there any
        more, the broker may have lost tasks. The leader then offers the tasks and sets the shares again, from
        SQL. A name may change without a loss (at a restart), but there is never a loss without a change.
        """
        ...

    async def keep_shards(self) -> None:
        """Bring the number of shards of each stage towards the one that this broker was opened with.

        Tasks stay where they are, and new ones are placed by the new number from now on. No task is lost or
        in two shards, and all goes on during the change. The leader calls this about once a second: when the
        tasks that were placed by an earlier number are done, a later call makes an end of the change.
        """
        ...

    async def mark(self) -> str | None:
        """Return the mark that says to which system these queues belong; None if they have none.

        A broker that loses its memory loses its mark too. A broker in process has none when it starts.
        """
        ...

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        """Leave `mark` if there is none, or if `replacing` is there, in one step.

        Returns the mark that is there now. The tasks do not change.
        """
        ...

    async def answer(
        self, stage: Stage, mailbox: str, answers: Sequence[bytes], *, keep_seconds: float
    ) -> None:
        """Leave answers for the process whose broker has this `mailbox`. No answer is looked into.

        If that process does not take them, all of its answers are dropped `keep_seconds` after the last one
        came. A broker that loses its memory loses them too.
        """
        ...

    async def take_answers(self, stage: Stage, *, timeout_seconds: float) -> list[bytes]:
        """Remove and return the answers in the mailbox of this process, in the order in which they came.

        It waits until there is one, and returns none after the timeout. Raises BrokerUnavailable if the
        broker is closed during the wait. An answer that was under way when a connection broke is lost.
        """
        ...

    async def wait_for_ready(self, stage: Stage, *, timeout_seconds: float, lane: Lane | None = None) -> bool:
        """Return True as soon as the stage may have a task to claim, False after the timeout.

        With a `lane`, only tasks of this lane count.

        True is a hint: the following claim may still be empty. It also counts tasks of tenants that the
        caller passes over in its claims, so a caller that found nothing for this reason pauses by itself. A
        delayed task or an expired lease ends no wait before `promote_due` or `reap_expired` has made the task
        ready. Raises BrokerUnavailable if the broker is closed during the wait.
        """
        ...

    async def close(self) -> None:
        """Release connections. Later calls raise BrokerUnavailable, except for `close`."""
        ...
