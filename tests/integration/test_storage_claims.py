"""A claim of storage tasks of several tenants: each collection stands or falls by itself."""

from __future__ import annotations

import pytest

from embedfleet.errors import EmbedfleetError, SpaceMismatch, VectorStoreUnavailable
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.settings import Settings
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import CollectionKey, VectorRows
from support.databases import on_both_databases
from support.stages_by_hand import stages_by_hand

BROKEN, WHOLE = "broken", "whole"


class OneBroken(NullVectorStore):
    """Refuses the writes of one tenant."""

    def __init__(self, failure: EmbedfleetError) -> None:
        self._failure = failure
        self.written: set[str] = set()

    async def upsert(self, collection: CollectionKey, rows: VectorRows) -> None:
        if collection.tenant == BROKEN:
            raise self._failure
        self.written.update(rows.ids)


@on_both_databases
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (SpaceMismatch("another space"), JobStatus.FAILED),
        (VectorStoreUnavailable("away"), JobStatus.STORING),
    ],
)
async def test_a_collection_that_cannot_be_written_fails_its_own_tasks_only(
    settings: Settings, failure: EmbedfleetError, status: JobStatus
) -> None:
    store = OneBroken(failure)
    async with stages_by_hand(settings, store=store) as stages:
        tenants = [WHOLE, BROKEN, WHOLE, BROKEN]
        job_ids = await stages.submit([(tenant, f"{n}", f"text {n}") for n, tenant in enumerate(tenants)])
        while await stages.do(Stage.CHUNKING, 4):
            pass
        assert await stages.do(Stage.EMBEDDING, 4) == 4
        assert await stages.do(Stage.STORAGE, 4) == 4
        assert await stages.statuses(job_ids) == [JobStatus.COMPLETED, status] * 2
    assert len(store.written) == 2
