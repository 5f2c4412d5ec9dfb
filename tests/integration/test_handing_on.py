"""Of tasks that are embedded together, one that is whole does not wait for the others."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.queue.broker import Lease
from embedfleet.queue.memory_broker import MemoryBroker
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.settings import DEFAULT_BATCH_TOKENS
from support.hangs import HANG_SECONDS
from support.system import ONE_EACH, Configure, paragraphs, running, take_ledger


class GatedBackend:
    """Takes a number of calls; the next one waits until the gate is open."""

    def __init__(self, inner: EmbeddingBackend, catalogue: GatedCatalogue) -> None:
        self._inner = inner
        self._catalogue = catalogue
        self.info: ModelInfo = inner.info

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        self._catalogue.pass_gate()
        return self._inner.embed_tokens(batch)

    def close(self) -> None:
        self._inner.close()


class GatedCatalogue(Catalogue):
    """`free_calls` None: the gate is open."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.free_calls: int | None = None
        self._open = threading.Event()
        self.waiting = threading.Semaphore(0)

    def pass_gate(self) -> None:
        if self.free_calls is None:
            return
        if self.free_calls == 0:
            self.waiting.release()
            self._open.wait()
        else:
            self.free_calls -= 1

    def open_gate(self) -> None:
        self.free_calls = None
        self._open.set()

    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        return GatedBackend(super().open(name, device), self)


class ClaimsNoted(MemoryBroker):
    """`claimed_tokens`: of each claim of embedding tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.claimed_tokens: list[int] = []

    async def claim(self, stage: Stage, **limits: Any) -> list[Lease]:
        leases = await super().claim(stage, **limits)
        if stage is Stage.EMBEDDING:
            self.claimed_tokens.append(sum(lease.task.cost for lease in leases))
        return leases


async def test_a_small_document_is_done_while_a_large_one_beside_it_is_embedded(configure: Configure) -> None:
    # One claim takes both; a call has few texts; the model hangs in the second call.
    settings = configure(
        models={"default": "stub", "microbatch_tokens": 64, "canary_every_batches": 0},
        worker_pools={"embedding": {"workers": 0, "min_workers": 0, "concurrency": 1, "batch_tasks": 8}},
    )
    catalogue = GatedCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        large = await fleet.submit("large", paragraphs("large", 40), chunking_config=ONE_EACH)
        small = await fleet.submit("small", paragraphs("small", 1), chunking_config=ONE_EACH)
        await fleet.eventually(lambda depths: depths[Stage.EMBEDDING].ready == 2)
        await fleet.system.models.get("stub")
        catalogue.free_calls = 1
        fleet.system.orchestrator.resize({Stage.EMBEDDING: 1})
        await asyncio.to_thread(catalogue.waiting.acquire)
        try:
            info = await fleet.jobs.wait(small, timeout_seconds=HANG_SECONDS)
            assert info.status is JobStatus.COMPLETED
            assert (await fleet.jobs.get_job_status(large)).progress.chunks_stored == 0
        finally:
            catalogue.open_gate()
        assert (await fleet.jobs.wait(large, timeout_seconds=HANG_SECONDS)).status is JobStatus.COMPLETED
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_claim_fills_four_calls_of_a_model_that_takes_much_at_once(configure: Configure) -> None:
    settings = configure(
        models={"default": "stub", "microbatch_tokens": 8192, "canary_every_batches": 0},
        worker_pools={"embedding": {"workers": 0, "min_workers": 0, "concurrency": 1}},
    )
    broker = ClaimsNoted()
    async with running(settings, broker=broker) as fleet:
        for number in range(12):
            await fleet.submit(f"{number}", paragraphs(f"{number}", 60), chunking_config=ONE_EACH)
        await fleet.eventually(lambda depths: depths[Stage.EMBEDDING].ready == 12)
        await fleet.system.models.get("stub")
        fleet.system.orchestrator.resize({Stage.EMBEDDING: 1})
        await fleet.idle()
    assert DEFAULT_BATCH_TOKENS < max(broker.claimed_tokens) <= 4 * 8192
