"""Switches to other models through HTTP, and with a client: what operators order and see."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from embedfleet.cli.systems.served_switches import ServedSwitches
from embedfleet.client import AsyncClient
from embedfleet.errors import InvalidRequest, UnknownModel, UnknownSwitch
from embedfleet.model_switching.administration import SwitchAdministration
from embedfleet.model_switching.selection import Selection
from embedfleet.records.audit import LOCAL
from embedfleet.sql.states import SwitchPhase
from support.api import Served, serving
from support.model_switches import MODELS, NEW, OLD, document, settled, until_phase
from support.system import TENANT, make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINE = Selection(TENANT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(make_settings(tmp_path_factory.mktemp("switches"), models=MODELS)) as one:
        for number in range(2):
            await one.running.ingest(**document(number))
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def through(served: Served) -> AsyncIterator[ServedSwitches]:
    """The switches of the server's system, through a client."""
    async with AsyncClient(served.url) as client:
        yield ServedSwitches(client.of_all_tenants())


@pytest.fixture
def here(served: Served) -> SwitchAdministration:
    """The same switches, in the process of the system."""
    parts = served.parts
    return SwitchAdministration(parts.database, parts.clock, parts.settings, parts.catalogue, actor=LOCAL)


async def test_a_client_does_what_an_operator_beside_the_database_does(
    served: Served, through: ServedSwitches, here: SwitchAdministration
) -> None:
    estimate = await through.estimate(MINE, to_model=NEW)
    assert settled(estimate) == settled(await here.estimate(MINE, to_model=NEW))
    [begun] = (await through.begin(MINE, to_model=NEW, percent=0, most_jobs=7)).switches
    assert (begun.from_model, begun.wanted_percent, begun.most_jobs) == (OLD, 0, 7)
    await until_phase(served.running, SwitchPhase.SERVING)
    assert await through.show(begun.switch_id) == await here.show(begun.switch_id)
    assert await through.list_switches() == await here.list_switches()
    campaign = Selection(campaign=begun.campaign)
    paused = await through.pause(campaign)
    assert [one.paused for one in paused.switches] == [True]
    assert not (await through.resume(MINE)).switches[0].paused
    assert (await through.throttle(MINE, most_jobs=None)).switches[0].most_jobs is None
    assert (await through.serve(campaign, percent=100)).switches[0].percent == 100
    assert (await through.rollback(MINE)).switches[0].percent == 0
    with pytest.raises(InvalidRequest, match="has passed its gate"):
        await through.force(MINE)
    refused = await through.recheck(Selection(all_tenants=True))
    assert [one.tenant_id for one in refused.refused] == [TENANT]
    await through.retire(MINE)
    await until_phase(served.running, SwitchPhase.ENDED)
    assert await through.list_switches() == []
    [ended] = await through.list_switches(tenant=TENANT, campaign=begun.campaign, ended=True, limit=1)
    assert ended.receipt is not None
    assert ended.receipt.model == NEW


async def test_errors_cross_as_they_are(through: ServedSwitches) -> None:
    with pytest.raises(UnknownModel, match="no model `x`"):
        await through.begin(MINE, to_model="x")
    with pytest.raises(UnknownSwitch, match="no switch `999`"):
        await through.show(999)
    with pytest.raises(InvalidRequest, match="a campaign is under way already"):
        await through.begin(Selection(campaign="c"), to_model=NEW)


async def test_a_body_that_selects_nothing_or_twice_is_refused(served: Served) -> None:
    for body in ({}, {"tenant_id": "a", "all_tenants": True}, {"tenant_id": "a", "campaign": "b"}):
        problem = await served.post("/v1/model_switches:pause", json=body, status=400)
        assert "say whose switches" in problem["detail"]


async def test_a_listing_is_read_in_pages(served: Served, through: ServedSwitches) -> None:
    for _ in range(2):
        await through.begin(MINE, to_model=NEW)
        await until_phase(served.running, SwitchPhase.SERVING)
        await through.rollback(MINE)
        await through.retire(MINE)
        await until_phase(served.running, SwitchPhase.ENDED)
    first = await through.list_switches(ended=True, limit=1)
    second = await through.list_switches(ended=True, limit=1, after=first.next_cursor)
    assert first[0].switch_id > second[0].switch_id
