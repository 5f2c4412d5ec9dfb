"""Switches of several tenants at once: one that fails does not hold up the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from time import time
from typing import Any

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.bootstrap import open_guest
from embedfleet.clock import SystemClock
from embedfleet.errors import VectorStoreUnavailable
from embedfleet.inference.catalogue import Catalogue
from embedfleet.model_switching import orders
from embedfleet.queue_schemas import ReceiptState
from embedfleet.records import model_switches
from embedfleet.records.audit import LOCAL
from embedfleet.sql.states import SwitchPhase
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.chroma.kind import chroma_directory
from embedfleet.vectors.port import CollectionKey
from support.hangs import HANG_SECONDS
from support.model_switches import (
    MODELS,
    NEW,
    OLD,
    HeldCatalogue,
    begin,
    document,
    found_media,
    order,
    switch_of,
    until_phase,
)
from support.system import TENANT, Configure, Running, running, take_ledger, until

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


async def test_a_tenant_that_is_erased_in_the_middle_of_its_switch_leaves_nothing(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    catalogue = HeldCatalogue(settings.models)
    async with running(settings, catalogue=catalogue) as fleet:
        for number in range(3):
            await ingest(fleet, number, TENANT)
        catalogue.goes_on.clear()
        try:
            switch = await begin(fleet)
            unfinished = partial(model_switches.unfinished_jobs, switch=switch)

            async def copies() -> bool:
                return bool(await fleet.system.database.read(unfinished))

            await until(copies, fleet.system.database)
            door = OperatorAdministration(fleet.system.database, SystemClock(), settings, actor=LOCAL)
            receipt_id = await door.delete_tenant(TENANT)
        finally:
            catalogue.goes_on.set()
        async with asyncio.timeout(HANG_SECONDS):
            receipt = await fleet.jobs.of_all_tenants().searched_receipt(receipt_id)
        assert receipt.state is ReceiptState.ERASED
        assert not await fleet.system.database.read(model_switches.any_running)
        (await take_ledger(fleet.system)).assert_exact()


async def test_a_model_that_left_the_settings_is_said_and_the_switch_can_be_given_up(
    configure: Configure,
) -> None:
    settings = configure(models=MODELS)
    async with running(settings) as fleet:
        for number in range(2):
            await ingest(fleet, number, TENANT)
    async with open_guest(settings) as guest:
        info = Catalogue(settings.models).info(NEW)
        await guest.database.write(
            partial(orders.begin, names=[TENANT], wanted=orders.Wanted(info), now=time())
        )
    without = configure(models={"default": OLD})
    async with running(without) as fleet:
        refused = await until_phase(fleet, SwitchPhase.REFUSED)
        assert f"no model `{NEW}`" in str(refused.findings["gate"]["reasons"])
        # Submissions go on in the meantime.
        await ingest(fleet, 7, TENANT)
        assert "doc-7" in await found_media(fleet, document(7)["title"])
        await order(fleet, orders.retire, now=time())
        await until_phase(fleet, SwitchPhase.ENDED)
        await fleet.settled()
        (await take_ledger(fleet.system)).assert_exact()
