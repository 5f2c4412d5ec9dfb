"""The chunking worker turns the documents of its claims into chunks, batches and embedding tasks.

A claim is many small documents or one large one. Its documents are read, written and queued together. A task
that is repeated makes the same chunks and batches, and skips the stored ones. So after a crash only the
cutting is repeated.

**Weights.** A tenant may queue its share, by weight, of what the embedding queue holds. A tenant with a full
share is passed over by claims, and a large document pauses while its tenant's share is full. So the queue
always holds work of every tenant in proportion to its weight, whatever the sizes of claims, pools and
documents are, and memory does not grow with a document.

A document that waits for room holds up no other: not those of its claim, whose batches are queued first, and
not those of other claims, as a worker has loops for documents that wait beside those at work.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import ending, partition
from embedfleet.lifecycle.partition import Outcome, Part
from embedfleet.queue.broker import Broker, Lease, Task
from embedfleet.queue.offering import offer
from embedfleet.queue_schemas import ChunkingTask, Stage
from embedfleet.records import jobs, segments
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job
from embedfleet.records.segments import Segment
from embedfleet.retry import BackOff
from embedfleet.settings import PoolsSettings, TenantsSettings
from embedfleet.workers.base_worker import Done, Failures, StageLoop, decoded, pause_before_next_look
from embedfleet.workers.cutting import ClaimCut, DocumentCut, PartToQueue
from embedfleet.workers.services import Services
from embedfleet.workers.settling import Interrupted

T = TypeVar("T")

# About how many chunks are written in one transaction: enough to share its cost, few enough for memory.
_CHUNKS_PER_WRITE = 512
# While a tenant's share is full, the pause between two looks doubles: dozens of documents may wait.
_SHORTEST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.25
# The embedding queue has room for at least this many claims of small documents. While all others are passed
# over, a claim is of one tenant alone. With few claims that fill the queue, it would far exceed the tenant's
# share, and the others would run dry in the time that it takes.
_CLAIMS_THAT_FILL = 8
# How many loops of a worker may wait for room with their documents. Each holds about a megabyte. With fewer
# loops than tenants with huge documents, these documents would hold all loops, and others would get none.
MOST_WAITING = 128


@dataclass(slots=True)
class _Rest:
    """Batches of a document that wait for room. `is_last`: the document is cut to its end."""

    job: Job
    tasks: deque[Task]
    is_last: bool


class Admittance:
    """Decides which tenants the claims of one worker pass over, and how many of its loops work at once.

    The loops of the worker share it. It belongs to one event loop.
    """

    def __init__(self, broker: Broker, pools: PoolsSettings, tenants: TenantsSettings) -> None:
        self._broker = broker
        self._most_at_work = pools.chunking.concurrency
        self._embedding = pools.embedding
        self._tenants = tenants
        self._at_work = 0
        self._waiting = 0
        self._open: Counter[str] = Counter()
        self._at_limit: set[str] = set()
        # Tenants for which tasks were queued since the last look. A tenant that only other workers fill is
        # noticed after its next claim.
        self._queued_for: set[str] = set()
        # Tenants with a full share. They are passed over without another look until this time of the loop.
        self._full: set[str] = set()
        self._look_at_full_at = float("-inf")

    @property
    def may_claim(self) -> bool:
        """Whether a further loop may begin a claim. A few more may be at work when documents go on."""
        return self._at_work < self._most_at_work

    @property
    def may_wait(self) -> bool:
        """Whether a further loop may wait for room."""
        return self._waiting < MOST_WAITING

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count a loop as at work during the block, except while its document waits for room."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    def queued_for(self, tenants: Collection[str]) -> None:
        """Note that tasks of these tenants were queued for embedding."""
        self._queued_for.update(tenants)

    async def passed_over(self) -> Collection[str]:
        """Return the tenants whose share of the embedding queue is full, or that have enough documents open.

        A document is open while it waits for room. Its tenant's share is full then, so a further document
        would only wait too, and would keep a loop from others.

        Each call looks at the tenants for which tasks were queued. Those whose share was full are looked at
        again after a pause only: each look at thousands of tenants is most of what a claim costs Redis.
        """
        now = asyncio.get_running_loop().time()
        is_due = now >= self._look_at_full_at
        asked = self._queued_for | self._full if is_due else self._queued_for
        # A set of its own: another loop may queue tasks while this one waits for the answer.
        self._queued_for = set()
        try:
            full = await self.full_among(asked)
        except BaseException:
            self._queued_for |= asked
            raise
        self._full = (self._full - asked) | full
        if is_due:
            self._look_at_full_at = now + pause_before_next_look(len(self._full), self._broker.shards)
        return self._full | self._at_limit

    async def full_among(self, tenants: Collection[str]) -> set[str]:
        """Return which of these tenants have a full share of the embedding queue."""
        if not tenants:
            return set()
        return await self._broker.crowded(
            Stage.EMBEDDING,
            tenants,
            max_tasks=self._embedding.max_queued_tasks,
            max_cost=self._embedding.max_queued_tokens,
        )

    @contextmanager
    def waiting(self, documents: Collection[Job]) -> Iterator[None]:
        """Count the documents of these jobs as open during the block, and their loop as not at work."""
        self._at_work -= 1
        self._waiting += 1
        for job in documents:
            self._count_open(job, 1)
        try:
            yield
        finally:
            self._at_work += 1
            self._waiting -= 1
            for job in documents:
                self._count_open(job, -1)

    def _count_open(self, job: Job, change: int) -> None:
        self._open[job.line] += change
        limit = self._tenants.tiers[job.user_tier.value].max_in_flight
        if limit is not None and self._open[job.line] >= limit:
            self._at_limit.add(job.line)
        else:
            self._at_limit.discard(job.line)
        if not self._open[job.line]:  # so that tenants that never come back are forgotten
            del self._open[job.line]


class ChunkingLoop(StageLoop):
    """Turns `ChunkingTask`s into `EmbeddingTask`s."""

    stage = Stage.CHUNKING

    def __init__(
        self,
        name: str,
        services: Services,
        *,
        catalogue: Catalogue,
        cpu: Executor,
        admittance: Admittance,
    ) -> None:
        super().__init__(name, services)
        self._catalogue = catalogue
        self._cpu = cpu
        self._admittance = admittance
        self._embedding = services.pools.embedding

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        messages, unreadable = decoded(leases, ChunkingTask)
        failures = dict(unreadable)
        task_of = {message.job_id: lease.task.id for lease, message in messages}
        # Counted from before the first pause: until it is counted, every other loop may claim as well.
        with self._admittance.working():
            documents, gone = await self._look_up(list(task_of))
            failures |= {task_of[job_id]: failure for job_id, failure in gone.items()}
            failed = await self._cut(documents)
        return failures | {task_of[job_id]: failure for job_id, failure in failed.items()}

    async def give_up(self, lease: Lease, reason: str) -> None:
        now = self._clock.now()

        def fail(conn: Connection) -> None:
            job = jobs.lock(conn, lease.task.job_id)
            if job is not None:
                ending.give_up(conn, job, DeadLetter(self.stage, reason), now)

        await self._database.write(fail)

    async def has_room(self) -> bool:
        return self._admittance.may_claim

    def tasks_per_claim(self) -> int:
        return min(super().tasks_per_claim(), -(-self._embedding.max_queued_tasks // _CLAIMS_THAT_FILL))

    def tokens_per_claim(self) -> int:
        return min(super().tokens_per_claim(), -(-self._embedding.max_queued_tokens // _CLAIMS_THAT_FILL))

    async def passing_over(self) -> Collection[str]:
        return await self._admittance.passed_over()

    async def _look_up(self, job_ids: Sequence[str]) -> tuple[Sequence[DocumentCut], Mapping[str, Exception]]:
        """Return the documents of the jobs that have not ended, and a failure for each whose text is gone."""
        found, gone = await self._database.read(lambda conn: partition.look_up(conn, job_ids))
        return [DocumentCut(document, self._model_of, self._segment) for document in found], gone

    async def _cut(self, documents: Sequence[DocumentCut]) -> Mapping[str, Exception]:
        """Cut the documents, write their parts and queue their batches. Return the failures by job id.

        A failure of a service, or an interruption, is one of the documents that are not finished by then.
        """
        claim = ClaimCut(documents, chunks_per_write=_CHUNKS_PER_WRITE)
        rests: list[_Rest] = []
        try:
            while parts := await self._on_cpu(claim.next_parts):
                self._make_way()
                rests += await self._hand_on(claim, parts)
                # Not before: a document that waits for room must not hold up the others of the claim. These
                # are small together, because only a claim of one document may exceed the budget.
                if claim.documents_left <= 1:
                    await self._queue_rests(claim, rests)
            await self._queue_rests(claim, rests)
        except Exception as exc:  # noqa: BLE001 - documents that are finished must not be cut again
            return claim.failures | dict.fromkeys(claim.unfinished, exc)
        return claim.failures

    async def _hand_on(self, claim: ClaimCut, parts: Sequence[PartToQueue]) -> list[_Rest]:
        """Write the parts to SQL, then queue the first batch of each document. Return the other batches.

        Only batches whose vectors are not stored yet are queued. After a crash between the two steps, the
        chunking tasks are delivered again and queue the batches that were not queued. The claim has passed
        over the tenants whose share was full, so a small document need not ask for room again.
        """
        outcomes = await self._record([made.part for made in parts])
        first: list[Task] = []
        rests: list[_Rest] = []
        for made in parts:
            if not self._is_written(claim, made, outcomes):
                continue
            tasks = deque(made.tasks_of(outcomes))
            if made.part.is_first and tasks:
                first.append(tasks.popleft())
            rests.append(_Rest(made.part.document.job, tasks, is_last=made.part.end is not None))
        await self._queue(first)
        return self._unfinished(claim, rests)

    async def _record(self, parts: Sequence[Part]) -> Mapping[str, Outcome]:
        now = self._clock.now()
        return await self._database.write(lambda conn: partition.record(conn, parts, now))

    async def _queue_rests(self, claim: ClaimCut, rests: list[_Rest]) -> None:
        """Queue all batches, each when its tenant has room, and remove them from `rests`."""
        while rests:
            await self._queue(await self._with_room(rests))
            rests[:] = self._unfinished(claim, rests)

    async def _with_room(self, rests: Sequence[_Rest]) -> list[Task]:
        """Take the next batch of each tenant that has room, at least one. Wait until a tenant has room."""
        first_of = {rest.job.line: rest for rest in reversed(rests)}
        # With exclusive use, this loop must not wait: the workers that could make room wait for this loop.
        if not self._exclusive_slot.held_exclusively:
            full = await self._admittance.full_among(first_of)
            if len(full) == len(first_of):
                full = await self._until_there_is_room([rest.job for rest in rests])
            first_of = {tenant: rest for tenant, rest in first_of.items() if tenant not in full}
        return [rest.tasks.popleft() for rest in first_of.values()]

    async def _until_there_is_room(self, documents: Sequence[Job]) -> set[str]:
        """Wait until one of the documents' tenants has room. Return the tenants that have none then."""
        if not self._admittance.may_wait:
            raise Interrupted
        tenants = {job.line for job in documents}
        pauses = BackOff(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        with self._admittance.waiting(documents):
            while True:
                self._make_way()
                await self.wait_for_room(pauses.next_seconds())
                full = await self._admittance.full_among(tenants)
                if len(full) < len(tenants):
                    return full

    async def _queue(self, tasks: Sequence[Task]) -> None:
        if tasks:
            self._admittance.queued_for({task.tenant for task in tasks})
            await offer(self._broker, Stage.EMBEDDING, tasks)

    def _unfinished(self, claim: ClaimCut, rests: Sequence[_Rest]) -> list[_Rest]:
        """Return the rests that still have batches. Documents that are queued to their end are finished."""
        for rest in rests:
            if rest.is_last and not rest.tasks:
                claim.finish(rest.job.job_id)
        return [rest for rest in rests if rest.tasks]

    def _is_written(self, claim: ClaimCut, made: PartToQueue, outcomes: Mapping[str, Outcome]) -> bool:
        """Whether the part is in SQL. If not, its document is cut no further."""
        job_id = made.part.document.job_id
        outcome = outcomes[job_id]
        if isinstance(outcome, Exception):
            claim.fail(job_id, outcome)
        elif outcome is None:
            self._log.info("job ended while it was chunked", job_id=job_id)
            claim.finish(job_id)
        return isinstance(outcome, frozenset)

    def _make_way(self) -> None:
        if self._stop.is_set() or self._exclusive_slot.should_yield:
            raise Interrupted

    def _model_of(self, name: str) -> ModelInfo:
        return self._catalogue.info(name)

    def _segment(self, generation_id: int, ordinal: int) -> Segment | None:
        look = partial(segments.get, generation_id=generation_id, ordinal=ordinal)
        return self._database.read_blocking(look)

    async def _on_cpu(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._cpu, work)
