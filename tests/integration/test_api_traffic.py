"""The traffic through HTTP: what operators do with it, and how its changes are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from embedfleet.client import AsyncClient
from embedfleet.errors import InvalidRequest, NotReady, UnknownShadow
from embedfleet.records import shadows
from embedfleet.records.audit import LOCAL
from embedfleet.records.shadows import DifferenceRow
from embedfleet.traffic.administration import TrafficAdministration
from embedfleet.traffic.schemas import TrafficChange
from embedfleet.traffic.shadow_administration import ShadowAdministration
from embedfleet.traffic.shadow_schemas import ShadowFindings, ShadowRule, Verdict
from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.sse import Frame, frames
from support.system import make_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = make_settings(tmp_path_factory.mktemp("traffic"), http={"heartbeat_seconds": 0.05})
    async with serving(settings) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(served: Served) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(served.url) as one:
        yield one


@pytest.fixture
def here(served: Served) -> TrafficAdministration:
    """The same traffic, in the process of the system."""
    return TrafficAdministration(served.parts.database, served.parts.clock, actor=LOCAL)


async def changes(stream: AsyncIterator[Frame], number: int) -> list[Frame]:
    """The next changes of a stream."""
    seen: list[Frame] = []
    async with asyncio.timeout(HANG_SECONDS):
        while len(seen) < number:
            frame = await anext(stream)
            if frame.event == "changed":
                seen.append(frame)
    return seen


async def test_a_client_does_what_an_operator_beside_the_database_does(
    client: AsyncClient, here: TrafficAdministration
) -> None:
    state = await client.set_traffic(percent=5, allow_tenants=["b", "a"], reason="a first try")
    assert (state.percent, sorted(state.allow_tenants)) == (5.0, ["a", "b"])
    assert await client.traffic_status() == await here.show()
    planned = await client.plan_traffic(
        [5, 50], hold_seconds=60, max_error_rate=0.01, max_p99_ratio=1.5, reason="climb"
    )
    assert planned.plan is not None
    assert (planned.plan.steps, planned.plan.hold_seconds, planned.plan.max_p99_ratio) == ((5, 50), 60, 1.5)
    assert (await client.pause_traffic()).plan == planned.plan.model_copy(update={"paused": True})
    assert (await client.resume_traffic(reason="go on")).running_plan is not None
    assert (await client.rollback_traffic(reason="enough")).percent == 0
    first = await client.traffic_history(limit=2)
    second = await client.traffic_history(limit=100, after=first.next_cursor)
    assert [*first, *second] == await here.history()
    assert [(one.action, one.reason) for one in first] == [("rollback", "enough"), ("resume", "go on")]
    assert (second[-1].actor, second[-1].reason) == (LOCAL, "a first try")


async def test_a_refusal_says_the_same_through_the_client_and_changes_nothing(
    client: AsyncClient, here: TrafficAdministration
) -> None:
    before = (await here.show()).state
    with pytest.raises(NotReady, match="cannot be retired yet") as refused:
        await client.retire_old_path(after_seconds=1)
    with pytest.raises(NotReady) as same:
        await here.retire(after_seconds=1)
    assert (str(refused.value), refused.value.remedy) == (str(same.value), same.value.remedy)
    with pytest.raises(NotReady, match="not retired"):
        await client.restore_old_path()
    with pytest.raises(InvalidRequest, match="percent: must be from 0 to 100"):
        await client.set_traffic(percent=101)
    with pytest.raises(InvalidRequest, match="steps"):
        await client.plan_traffic([], hold_seconds=1, max_error_rate=0.1, max_p99_ratio=1)
    assert (await here.show()).state == before


async def test_of_two_operators_who_looked_at_the_same_state_the_second_is_told(
    client: AsyncClient, here: TrafficAdministration
) -> None:
    looked_at = (await here.show()).state.change_id
    await here.set(deny_tenants=["first"], expected_change_id=looked_at)
    with pytest.raises(NotReady, match="another change of the traffic came first"):
        await client.set_traffic(deny_tenants=["second"], expected_change_id=looked_at)
    assert (await here.show()).state.deny_tenants == {"first"}


async def test_a_client_begins_watches_and_ends_a_shadow_run(served: Served, client: AsyncClient) -> None:
    here = ShadowAdministration(served.parts.database, served.parts.clock, actor=LOCAL)
    rule = ShadowRule(requests=5, max_mismatch_rate=0.2)
    begun = await client.begin_shadow(owner="search", rule=rule, expires_seconds=3600)
    assert (begun.owner, begun.rule) == ("search", rule)
    assert begun == (await here.list_shadows())[0]
    assert (await client.traffic_status()).shadow == begun
    found = ShadowFindings(requests=2, mismatched=1, differences={"cosine": 1}, new_latencies={3: 2})
    example = DifferenceRow(1.0, "alice", "a/b", "cosine", '{"cosine": 0.5}')

    def find(conn: Connection) -> None:
        shadows.add_findings(conn, begun.shadow_id, lambda _: found.model_dump_json())
        shadows.add_examples(conn, begun.shadow_id, [example], most_of_a_kind=1)

    await served.parts.database.write(find)
    seen = await client.get_shadow(begun.shadow_id)
    assert seen == await here.show(begun.shadow_id)
    assert [(one.tenant, one.media_id, one.details) for one in seen.examples] == [
        ("alice", "a/b", {"cosine": 0.5})
    ]
    with pytest.raises(InvalidRequest, match="one runs at a time"):
        await client.begin_shadow(owner="other", rule=rule, expires_seconds=1)
    ended = await client.end_shadow(begun.shadow_id)
    assert (ended.verdict, ended == await client.end_shadow(begun.shadow_id)) == (Verdict.UNDECIDED, True)
    assert await client.list_shadows() == await here.list_shadows()
    assert (await client.traffic_status()).shadow is None
    for ask in (client.get_shadow, client.end_shadow):
        with pytest.raises(UnknownShadow, match="no shadow `none`"):
            await ask("none")


async def test_a_stream_tells_each_change_once_with_its_number_as_id(
    served: Served, here: TrafficAdministration
) -> None:
    async with frames(served.client, "/v1/traffic/events") as stream:
        opened = await anext(stream)
        last = (await here.show()).state.change_id
        assert (opened.event, opened.data, opened.id) == ("opened", {"position": last}, None)
        await here.set(percent=1)
        await served.running.submit("other", "a write of something else")
        await here.set(percent=2)
        told = await changes(stream, 2)
    assert [(one.id, one.data["state"]["percent"]) for one in told] == [
        (str(last + 1), 1.0),
        (str(last + 2), 2.0),
    ]
    # A client that got the first of them, and was cut off.
    back = {"Last-Event-ID": str(last + 1)}
    async with frames(served.client, "/v1/traffic/events?after=0", headers=back) as stream:
        await here.set(percent=3)
        again = await changes(stream, 2)
    assert [one.id for one in again] == [str(last + 2), str(last + 3)]


async def test_a_number_that_was_never_given_is_answered_with_a_notice(
    served: Served, here: TrafficAdministration
) -> None:
    last = (await here.show()).state.change_id
    for unheard in (str(last + 1), "x"):
        async with frames(served.client, "/v1/traffic/events", headers={"Last-Event-ID": unheard}) as stream:
            assert (await anext(stream)).event == "opened"
            notice = await anext(stream)
        assert (notice.event, notice.data) == ("resync", {"asked": unheard, "position": last})


async def test_a_client_follows_the_changes_from_the_first(
    client: AsyncClient, here: TrafficAdministration
) -> None:
    await here.set(percent=10)
    known = list(reversed(await here.history()))
    followed: list[TrafficChange] = []
    async with asyncio.timeout(HANG_SECONDS):
        async for change in client.follow_traffic():
            followed.append(change)
            if len(followed) == len(known):
                await here.set(percent=50)
            if len(followed) > len(known):
                break
    assert followed[:-1] == known
    assert followed[-1].state.percent == 50


async def test_a_stream_that_is_silent_has_heartbeats_and_a_server_that_stops_ends_it(
    served: Served,
) -> None:
    async with frames(served.client, "/v1/traffic/events") as stream:
        assert (await anext(stream)).event == "opened"
        assert (await anext(stream)).data is None
        served.stop.set()
        async with asyncio.timeout(HANG_SECONDS):
            told = [frame.event async for frame in stream if frame.event is not None]
    assert told == ["stopping"]
