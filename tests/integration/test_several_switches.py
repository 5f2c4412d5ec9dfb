"""Switches of several tenants at once: one that fails does not hold up the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from embedfleet.errors import VectorStoreUnavailable
from embedfleet.sql.states import SwitchPhase
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.port import CollectionKey
from support.hangs import HANG_SECONDS
from support.model_switches import MODELS, begin, document, switch_of, until_phase
from support.system import TENANT, Configure, Running, running

OTHER = "bob"


class StoreThatCannotRead(ChromaVectorStore):
    """The collections of one tenant cannot be read while `broken`."""

    broken: bool

    async def scan(self, collection: CollectionKey, **more: Any) -> AsyncIterator[Any]:
        if self.broken and collection.tenant == TENANT:
            raise VectorStoreUnavailable("its index is damaged")
        async for page in super().scan(collection, **more):
            yield page


async def test_a_switch_that_fails_again_and_again_holds_up_no_other(configure: Configure) -> None:
    settings = configure(models=MODELS)
    store = await StoreThatCannotRead.open(chroma_directory(settings.data_dir))
    store.broken = True
    async with running(settings, store=store) as fleet:
        for tenant in (TENANT, OTHER):
            for number in range(3):
                await ingest(fleet, number, tenant)
        await begin(fleet, TENANT)
        await begin(fleet, OTHER)
        await until_phase(fleet, SwitchPhase.SERVING, tenant=OTHER)
        assert (await switch_of(fleet.system.database)).phase is not SwitchPhase.SERVING
        store.broken = False
        await until_phase(fleet, SwitchPhase.SERVING)


async def ingest(fleet: Running, number: int, tenant: str) -> None:
    job_id = await fleet.submit(**document(number), user_id=tenant)
    await fleet.jobs.of_all_tenants().wait(job_id, timeout_seconds=HANG_SECONDS)
