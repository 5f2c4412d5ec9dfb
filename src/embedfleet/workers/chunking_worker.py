"""The chunking worker turns the documents of its claims into chunks, batches and embedding tasks.

A claim is many small documents or one large one. Its documents are read, written and queued together. A task
that is repeated makes the same chunks and batches, and skips the stored ones. So after a crash only the
cutting is repeated.

**Weights.** A tenant may queue its share, by weight, of what the embedding queue holds. A tenant with a full
share is passed over by claims, and a large document pauses while its tenant's share is full. So the queue
always holds work of every tenant in proportion to its weight, whatever the sizes of claims, pools and
documents are, and memory does not grow with a document.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import ending, partition
from embedfleet.lifecycle.partition import DocumentToCut, Outcome
from embedfleet.queue.broker import Broker, Lease, Task
from embedfleet.queue.offering import offer
from embedfleet.queue_schemas import ChunkingTask, Stage
from embedfleet.records import jobs, segments
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job
from embedfleet.records.segments import Segment
from embedfleet.retry import BackOff
from embedfleet.settings import EmbeddingPoolSettings, TenantsSettings
from embedfleet.workers.base_worker import Done, Failures, StageLoop, decoded
from embedfleet.workers.cutting import ClaimCut, DocumentCut, PartToQueue
from embedfleet.workers.services import Services
from embedfleet.workers.settling import Interrupted

T = TypeVar("T")

# About how many chunks are written in one transaction: enough to share its cost, few enough for memory.
_CHUNKS_PER_WRITE = 512
# While a tenant's share is full, the pause between two looks doubles: dozens of documents may wait.
_SHORTEST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.25
# How many loops of a worker cut at the same time: one thread does the cutting, and while it cuts for one loop
# the others read and write. Loops whose document waits for room do not count.
_LOOPS_AT_WORK = 3


class Admittance:
    """Decides which tenants the claims of one worker pass over, and how many of its loops work at once.

    The loops of the worker share it. It belongs to one event loop.
    """

    def __init__(self, broker: Broker, embedding: EmbeddingPoolSettings, tenants: TenantsSettings) -> None:
        self._broker = broker
        self._embedding = embedding
        self._tenants = tenants
        self._at_work = 0
        self._open: Counter[str] = Counter()
        self._at_limit: set[str] = set()
        # Tenants that may have a full share: those for which tasks were queued since the last look, and those
        # that had a full share then. A tenant that only other workers fill is noticed after its next claim.
        self._perhaps_full: set[str] = set()

    @property
    def may_claim(self) -> bool:
        """Whether a further loop may begin a claim. A few more may be at work when documents go on."""
        return self._at_work < _LOOPS_AT_WORK

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
        self._perhaps_full.update(tenants)

    async def passed_over(self) -> Collection[str]:
        """Return the tenants whose share of the embedding queue is full, or that have enough documents open.

        A document is open while it waits for room. Its tenant's share is full then, so a further document
        would only wait too, and would keep a loop from others.
        """
        self._perhaps_full = await self.full_among(self._perhaps_full)
        return self._perhaps_full | self._at_limit

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
    def waiting(self, job: Job) -> Iterator[None]:
        """Count a document of the job's tenant as open during the block, and its loop as not at work."""
        limit = self._tenants.tiers[job.user_tier.value].max_in_flight
        self._at_work -= 1
        self._open[job.tenant] += 1
        if limit is not None and self._open[job.tenant] >= limit:
            self._at_limit.add(job.tenant)
        try:
            yield
        finally:
            self._at_work += 1
            self._open[job.tenant] -= 1
            self._at_limit.discard(job.tenant)


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

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        messages, unreadable = decoded(leases, ChunkingTask)
        failures = dict(unreadable)
        task_of = {message.job_id: lease.task.id for lease, message in messages}
        found, gone = await self._database.read(lambda conn: partition.look_up(conn, list(task_of)))
        failures |= {task_of[job_id]: failure for job_id, failure in gone.items()}
        with self._admittance.working():
            failed = await self._cut(found)
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

    async def passing_over(self) -> Collection[str]:
        return await self._admittance.passed_over()

    async def _cut(self, documents: Sequence[DocumentToCut]) -> Mapping[str, Exception]:
        """Cut the documents, write their parts and queue their batches. Return the failures by job id.

        A failure of a service, or an interruption, is one of the documents that are not finished by then.
        """
        claim = ClaimCut(
            [DocumentCut(document, self._model_of, self._segment) for document in documents],
            chunks_per_write=_CHUNKS_PER_WRITE,
        )
        try:
            while parts := await self._on_cpu(claim.next_parts):
                self._make_way()
                await self._hand_on(claim, parts)
        except Exception as exc:  # noqa: BLE001 - documents that are finished must not be cut again
            return claim.failures | dict.fromkeys(claim.unfinished, exc)
        return claim.failures

    async def _hand_on(self, claim: ClaimCut, parts: Sequence[PartToQueue]) -> None:
        """Write the parts to SQL, then queue the batches whose vectors are not stored yet.

        After a crash between the two steps, the chunking tasks are delivered again and queue the batches that
        were not queued.
        """
        now = self._clock.now()
        outcomes = await self._database.write(
            lambda conn: partition.record(conn, [made.part for made in parts], now)
        )
        written = [made for made in parts if self._is_written(claim, made, outcomes)]
        # Before the first task is queued: a document may then wait for room for long.
        self._admittance.queued_for({made.part.document.job.tenant for made in written})
        await self._queue(written, outcomes)
        for made in written:
            if made.part.end is not None:
                claim.finish(made.part.document.job_id)

    async def _queue(self, written: Sequence[PartToQueue], outcomes: Mapping[str, Outcome]) -> None:
        """Queue the first batch of each document together, and each further batch when there is room.

        The claim has passed over the tenants whose share was full, so a small document need not ask again.
        """
        first: list[Task] = []
        further: list[tuple[Job, Task]] = []
        for made in written:
            tasks = made.tasks_of(outcomes)
            at_once = 1 if made.part.is_first else 0
            first += tasks[:at_once]
            further += [(made.part.document.job, task) for task in tasks[at_once:]]
        if first:
            await offer(self._broker, Stage.EMBEDDING, first)
        for job, task in further:
            await self._until_there_is_room(job)
            await offer(self._broker, Stage.EMBEDDING, [task])

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

    async def _until_there_is_room(self, job: Job) -> None:
        """Wait while the job's tenant has a full share of the embedding queue."""
        # With exclusive use, this loop must not wait: the workers that could make room wait for this loop.
        if self._exclusive_slot.held_exclusively or not await self._admittance.full_among([job.tenant]):
            return
        pauses = BackOff(_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        with self._admittance.waiting(job):
            while await self._admittance.full_among([job.tenant]):
                self._make_way()
                await self.wait_for_room(pauses.next_seconds())

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
