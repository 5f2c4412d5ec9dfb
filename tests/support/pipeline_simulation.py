"""The whole pipeline in virtual time: the real broker, loops and policy of waiting, over simulated work.

What decides about shares is the real code: the claims and pauses of every loop, the order in which batches
are queued, and the room that the queues have. What costs time is simulated: a worker does tokens at a fixed
rate, and no text, model, SQL or vector store is there. An hour of the pipeline takes seconds.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeAlias, TypeVar, cast

from embedfleet.account import NOTHING_SAID
from embedfleet.clock import ManualClock
from embedfleet.lifecycle.partition import CutBatch, DocumentToCut, End, Outcome, Part
from embedfleet.metrics import Metrics
from embedfleet.queue.broker import Lease, Task, TenantShare
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue.offering import offer
from embedfleet.queue_schemas import ChunkingTask, JobStatus, Stage, UserTier
from embedfleet.records.batches import Batch
from embedfleet.records.jobs import Job
from embedfleet.settings import PoolsSettings, TenantsSettings, VectorStoreSettings
from embedfleet.vectors.null import NullVectorStore
from embedfleet.workers.base_worker import Done, Failures, StageLoop
from embedfleet.workers.chunking_worker import MOST_WAITING, Admittance, ChunkingLoop
from embedfleet.workers.cutting import DocumentCut, PartToQueue
from embedfleet.workers.embedding_worker import EmbeddingLoop
from embedfleet.workers.services import Services
from embedfleet.workers.storage_worker import StorageLoop
from embedfleet.workers.worker import Worker

T = TypeVar("T")

BATCH_CHUNKS = 64
SECONDS_PER_WRITE = 0.002
"""What a claim costs beside its tokens: a transaction, or a call of the vector store."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that never sleeps: when every task waits, the clock goes on to the next timer."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(_NeverSleeping(clock))
        self._virtual_clock = clock

    def time(self) -> float:
        return self._virtual_clock.now()


class _NeverSleeping(selectors.DefaultSelector):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits, and no timer will wake one: the simulation hangs")
        self._clock.advance(max(0.0, timeout))
        return super().select(0)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant that always has documents waiting, all of the same size."""

    name: str
    weight: float
    chunks: int
    """Of each document."""
    chunk_tokens: int

    @property
    def document_tokens(self) -> int:
        return self.chunks * self.chunk_tokens

    @property
    def batch_tokens(self) -> int:
        """Of the largest batch of a document."""
        return min(self.chunks, BATCH_CHUNKS) * self.chunk_tokens


@dataclass(frozen=True, slots=True)
class StageOfPipeline:
    """How many workers a stage has, and how many tokens each of them does in a second."""

    workers: int
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class PipelineOutcome:
    """What a pipeline did: the tokens stored for each tenant in the window, and the most documents that were
    claimed for chunking at any time of the run."""

    stored_tokens: Counter[str]
    most_claimed_documents: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A whole system: its tenants, its settings and its machines."""

    tenants: tuple[Tenant, ...]
    pools: PoolsSettings
    stages: Mapping[Stage, StageOfPipeline]
    max_in_flight: int | None

    def run(
        self, *, after: float, for_tokens: float, make_broker: MakeBroker | None = None
    ) -> PipelineOutcome:
        """Run the pipeline until the end of a window, and return what it did.

        The window begins when `after` tokens are stored, and ends when `for_tokens` more are. `make_broker`
        returns the broker of the run, which may count or cost more; None: calls take no time.
        """
        clock = ManualClock(0.0)
        broker = (make_broker or BackloggedBroker)(clock, self.tenants)
        with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
            return runner.run(_Run(self, clock, broker, after, for_tokens).outcome())


class BackloggedBroker(MemoryBroker):
    """A broker whose tenants submit a document for each document that is claimed."""

    def __init__(self, clock: ManualClock, tenants: Sequence[Tenant]) -> None:
        super().__init__(clock=clock)
        self._tenant_named = {tenant.name: tenant for tenant in tenants}
        self._numbers = count()
        self.most_claimed_documents = 0

    async def submit(self, tenant_names: Collection[str]) -> None:
        await self.enqueue(Stage.CHUNKING, [self._document_of(name) for name in tenant_names])

    async def claim(self, stage: Stage, **how: Any) -> list[Lease]:
        leases = await super().claim(stage, **how)
        if stage is Stage.CHUNKING and leases:
            claimed = (await self.depth(stage)).leased
            self.most_claimed_documents = max(self.most_claimed_documents, claimed)
            await self.submit([lease.task.tenant for lease in leases])
        return leases

    def _document_of(self, name: str) -> Task:
        job_id = f"{name}-{next(self._numbers)}"
        payload = ChunkingTask(tenant=name, job_id=job_id).encode()
        return Task(job_id, name, job_id, self._tenant_named[name].document_tokens, payload)


MakeBroker: TypeAlias = Callable[[ManualClock, Sequence[Tenant]], BackloggedBroker]


class _Run:
    def __init__(
        self,
        pipeline: Pipeline,
        clock: ManualClock,
        broker: BackloggedBroker,
        after: float,
        for_tokens: float,
    ) -> None:
        self.pipeline = pipeline
        self.tenant_named = {tenant.name: tenant for tenant in pipeline.tenants}
        self.broker = broker
        self.services = Services(
            self.broker,
            cast(Any, None),  # no database: the simulated loops do not ask it
            Metrics(),
            clock,
            pipeline.pools,
        )
        self._after, self._until = after, after + for_tokens
        self._stored_tokens = 0
        self._stored_before: Counter[str] = Counter()
        self._stored: Counter[str] = Counter()
        self._window_is_over = asyncio.Event()

    async def outcome(self) -> PipelineOutcome:
        await self.broker.set_shares(
            {tenant.name: TenantShare(tenant.weight) for tenant in self.pipeline.tenants}
        )
        for tenant in self.pipeline.tenants:
            # One more than a claim may take, so that no claim finds a tenant without a document.
            await self.broker.submit([tenant.name] * (self.pipeline.pools.chunking.batch_tasks + 1))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as running:
            workers = [running.create_task(worker.run(stop)) for worker in self._workers()]
            await self._window_is_over.wait()
            for worker in workers:
                worker.cancel()
        return PipelineOutcome(self._stored - self._stored_before, self.broker.most_claimed_documents)

    def stored(self, leases: Sequence[Lease]) -> None:
        """Count what has left the pipeline."""
        if self._stored_tokens < self._after:
            self._stored_before = self._stored.copy()
        for lease in leases:
            self._stored[lease.task.tenant] += lease.task.cost
            self._stored_tokens += lease.task.cost
        if self._stored_tokens >= self._until:
            self._window_is_over.set()

    def _workers(self) -> list[Worker]:
        build = {
            Stage.CHUNKING: self._chunking_loops,
            Stage.EMBEDDING: self._embedding_loops,
            Stage.STORAGE: self._storage_loops,
        }
        return [
            Worker(build[stage](f"{stage}-{number}"))
            for stage, of_stage in self.pipeline.stages.items()
            for number in range(of_stage.workers)
        ]

    def _chunking_loops(self, name: str) -> list[StageLoop]:
        tiers = {
            tier: settings.model_copy(update={"max_in_flight": self.pipeline.max_in_flight})
            for tier, settings in TenantsSettings().tiers.items()
        }
        pools = self.pipeline.pools
        admittance = Admittance(self.broker, pools, TenantsSettings(tiers=tiers))
        machine = _Machine(self.pipeline.stages[Stage.CHUNKING].tokens_per_second)
        return [
            _Chunking(f"{name}/{number}", self, admittance, machine)
            for number in range(pools.chunking.concurrency + MOST_WAITING)
        ]

    def _embedding_loops(self, name: str) -> list[StageLoop]:
        machine = _Machine(self.pipeline.stages[Stage.EMBEDDING].tokens_per_second)
        concurrency = self.pipeline.pools.embedding.concurrency
        return [_Embedding(f"{name}/{number}", self, machine) for number in range(concurrency)]

    def _storage_loops(self, name: str) -> list[StageLoop]:
        machine = _Machine(self.pipeline.stages[Stage.STORAGE].tokens_per_second)
        concurrency = self.pipeline.pools.storage.concurrency
        return [_Storage(f"{name}/{number}", self, machine) for number in range(concurrency)]


class _Machine:
    """The thread, model or store that the loops of a worker share. It does one thing at a time."""

    def __init__(self, tokens_per_second: float) -> None:
        self._tokens_per_second = tokens_per_second
        self._in_use = asyncio.Lock()

    async def work(self, tokens: int) -> None:
        async with self._in_use:
            await asyncio.sleep(tokens / self._tokens_per_second)


class _Chunking(ChunkingLoop):
    """The real loop over simulated documents."""

    def __init__(self, name: str, run: _Run, admittance: Admittance, machine: _Machine) -> None:
        super().__init__(
            name, run.services, catalogue=cast(Any, None), cpu=cast(Any, None), admittance=admittance
        )
        self._run = run
        self._machine = machine

    async def _look_up(self, job_ids: Sequence[str]) -> tuple[Sequence[DocumentCut], Mapping[str, Exception]]:
        await asyncio.sleep(SECONDS_PER_WRITE)
        tenant_of = {job_id: self._run.tenant_named[job_id.partition("-")[0]] for job_id in job_ids}
        return [_SimulatedCut(job_id, tenant) for job_id, tenant in tenant_of.items()], {}

    async def _record(self, parts: Sequence[Part]) -> Mapping[str, Outcome]:
        await asyncio.sleep(SECONDS_PER_WRITE)
        return {part.document.job_id: frozenset(cut.batch.ordinal for cut in part.batches) for part in parts}

    async def _on_cpu(self, work: Callable[[], T]) -> T:
        made = work()
        parts = cast(list[PartToQueue], made)
        await self._machine.work(sum(task.cost for part in parts for task in part.tasks))
        return made


class _Embedding(EmbeddingLoop):
    """The real claims and back-pressure, and a model of a fixed speed."""

    def __init__(self, name: str, run: _Run, machine: _Machine) -> None:
        super().__init__(name, run.services, models=cast(Any, None), canary=cast(Any, None), caching=False)
        self._machine = machine

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        await asyncio.sleep(SECONDS_PER_WRITE)
        await self._machine.work(sum(lease.task.cost for lease in leases))
        await offer(self._broker, Stage.STORAGE, [lease.task for lease in leases])
        return {}

    def tokens_per_claim(self) -> int:
        return StageLoop.tokens_per_claim(self)  # there is no model to ask


class _Storage(StorageLoop):
    """The real claims, and a store of a fixed speed."""

    def __init__(self, name: str, run: _Run, machine: _Machine) -> None:
        super().__init__(name, run.services, store=NullVectorStore(), settings=VectorStoreSettings())
        self._run = run
        self._machine = machine

    async def process(self, leases: Sequence[Lease], done: Done) -> Failures:
        await asyncio.sleep(SECONDS_PER_WRITE)
        await self._machine.work(sum(lease.task.cost for lease in leases))
        self._run.stored(leases)
        return {}


_ANY_JOB = Job(
    job_id="",
    tenant="",
    document_id="",
    generation_id=0,
    user_tier=UserTier.FREE,
    priority=50,
    status=JobStatus.CHUNKING,
    reason=None,
    run=1,
    sealed=False,
    batches_total=0,
    batches_embedded=0,
    batches_done=0,
    chunks_total=0,
    chunks_embedded=0,
    chunks_stored=0,
    chunks_reused=0,
    switch_id=None,
    flow=None,
    chunks_dead=0,
    coverage=None,
    created_at=0.0,
    started_at=None,
    finished_at=None,
    offered_at=None,
    route=None,
)


class _SimulatedCut(DocumentCut):
    """A document that has no text: only the number and size of its chunks count."""

    def __init__(self, job_id: str, tenant: Tenant) -> None:
        job = replace(_ANY_JOB, job_id=job_id, tenant=tenant.name, document_id=job_id)
        super().__init__(DocumentToCut(job, cast(Any, None), None), cast(Any, None), cast(Any, None))
        self._tenant = tenant
        self._cut = 0

    @property
    def only_text(self) -> None:
        return None

    def next_part(self, most_chunks: int) -> PartToQueue:
        first = self._cut
        wanted = -(-most_chunks // BATCH_CHUNKS)
        made: list[CutBatch] = []
        tasks: list[Task] = []
        while self._cut < self._tenant.chunks and len(made) < wanted:
            chunks = min(BATCH_CHUNKS, self._tenant.chunks - self._cut)
            batch = Batch(self._cut // BATCH_CHUNKS, self._cut, chunks)
            made.append(CutBatch(batch, []))
            tasks.append(self._task_of(batch))
            self._cut += chunks
        end = End(self._cut, 1.0, NOTHING_SAID) if len(made) < wanted else None
        return PartToQueue(Part(self.document, made, is_first=first == 0, end=end), tasks)

    def _task_of(self, batch: Batch) -> Task:
        job_id = self.document.job_id
        tokens = batch.chunks * self._tenant.chunk_tokens
        return Task(f"{job_id}:1:{batch.ordinal}", self._tenant.name, job_id, tokens, b"a batch")
