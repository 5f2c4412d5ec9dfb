"""Storage waits while the vector store is behind with its upkeep, and goes on when it has caught up."""

from __future__ import annotations

import asyncio

import pytest

from embedfleet.queue_schemas import JobStatus
from embedfleet.vectors import store_room
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import CollectionKey, StoreDebt, VectorRows
from support.hangs import HANG_SECONDS
from support.system import TENANT, Configure, paragraphs, running


class StoreBehind(NullVectorStore):
    """A store whose upkeep is held up, until the test lets it go on."""

    def __init__(self) -> None:
        self.rows = 60
        self.looked_at = asyncio.Event()
        self.written: list[int] = []

    async def debt(self) -> StoreDebt:
        self.looked_at.set()
        return StoreDebt(unindexed_rows=self.rows)

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        self.written.append(self.rows)


async def test_nothing_is_stored_while_too_many_rows_are_in_no_index(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_room, "LOOK_SECONDS", 0.0)
    store = StoreBehind()
    settings = configure(vector_store={"max_unindexed_rows": 50})
    async with running(settings, store=store) as system:
        job_id = await system.submit("book", paragraphs("book", 3), user_id=TENANT)
        # Three looks after the batch is in the queue: none of them claims it.
        await system.eventually(
            lambda depths: any(stage.value == "storage" and depth.ready for stage, depth in depths.items())
        )
        for _ in range(3):
            store.looked_at.clear()
            async with asyncio.timeout(HANG_SECONDS):
                await store.looked_at.wait()
        assert store.written == []
        waits = system.system.metrics.registry.get_sample_value("embedding_storage_waits_total")
        assert waits is not None
        assert waits > 0, "an operator is told"
        store.rows = 50
        info = await system.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
    assert info.status is JobStatus.COMPLETED
    assert set(store.written) == {50}
