"""Shards of a stage: another number of them while tasks are queued, held and offered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from embedfleet.errors import BrokerUnavailable
from embedfleet.queue.broker import MAX_COST, Broker, Lease, Task, TenantShare
from embedfleet.queue.keys import stage_key
from embedfleet.queue.redis_broker import RedisBroker
from embedfleet.queue.redis_scripts import StageScripts
from embedfleet.queue.shards import Layout
from embedfleet.queue_schemas import Stage
from embedfleet.settings import PoolSettings
from support.hangs import HANG_SECONDS
from support.redis_brokers import opened
from support.redis_server import RedisServer, redis_settings
from support.redis_topologies import RedisClusterServers

STAGE = Stage.EMBEDDING
MOST_SHARDS = 8


def a_task(task_id: str, *, tenant: str = "acme", job: str = "job") -> Task:
    return Task(task_id, tenant, job, 10, b"payload of " + task_id.encode())


def some_tasks(count: int, *, first: int = 0) -> list[Task]:
    return [a_task(f"job:1:{number}") for number in range(first, first + count)]


async def claim(broker: Broker, most: int = 1_000, *, lease_seconds: float = 600) -> list[Lease]:
    return await broker.claim(
        STAGE, worker="w", max_tasks=most, max_cost=MAX_COST, lease_seconds=lease_seconds
    )


async def claim_all(broker: Broker) -> list[Lease]:
    leases: list[Lease] = []
    while claimed := await claim(broker):
        leases += claimed
    return leases


def where(server: RedisServer, *, shards: int = MOST_SHARDS) -> dict[str, list[int]]:
    """The shards that have each unfinished or dead task of the stage."""
    found: dict[str, list[int]] = {}
    with server.client() as client:
        for shard in range(shards):
            for task_id in client.hkeys(stage_key("embedfleet", STAGE, "tasks", shard)):
                found.setdefault(task_id.decode(), []).append(shard)
    return found


def assert_none_is_in_two(server: RedisServer) -> None:
    assert {task_id: shards for task_id, shards in where(server).items() if len(shards) > 1} == {}


async def test_a_raise_leaves_queued_tasks_where_they_are_and_spreads_new_ones(
    redis_server: RedisServer,
) -> None:
    async with opened(redis_server, shards=4) as leader, opened(redis_server, shards=1) as worker:
        await worker.enqueue(STAGE, some_tasks(100))
        held = await claim(worker, 10)
        await leader.keep_shards()
        assert await worker.enqueue(STAGE, some_tasks(200)) == 100, "the first hundred are known"
        assert_none_is_in_two(redis_server)
        shards = where(redis_server)
        assert {shards[f"job:1:{number}"][0] for number in range(100)} == {0}
        assert {shards[f"job:1:{number}"][0] for number in range(100, 200)} == {0, 1, 2, 3}
        leases = await claim_all(worker) + held
        assert Counter(lease.task.id for lease in leases) == Counter(t.id for t in some_tasks(200))
        assert all(lease.task.payload == a_task(lease.task.id).payload for lease in leases)
        assert await leader.ack(leases) == []
        depth = await leader.depth(STAGE)
        assert (depth.done, depth.enqueued, depth.ready + depth.leased) == (200, 200, 0)


async def test_an_offer_by_the_old_number_is_refused_once_its_shard_was_asked(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: a process that has not heard of the change offers a task right after another has seen that
    the old shard does not have it."""
    task = next(one for one in some_tasks(100) if _home_of_four(one) != 0)
    async with opened(redis_server, shards=4) as leader, opened(redis_server, shards=1) as late:
        assert await late.enqueue(STAGE, [a_task("other")]) == 1
        monkeypatch.setattr(late, "_look_at_layout_at", float("inf"))  # it does not ask by itself
        await leader.keep_shards()
        assert await leader.enqueue(STAGE, [task]) == 1
        assert late._layout.now.shards == 1
        assert await late.enqueue(STAGE, [task]) == 0
        assert late._layout.now.shards == 4, "the refusal said so"
        assert_none_is_in_two(redis_server)


async def test_a_number_counts_as_gone_when_its_last_task_is_done(redis_server: RedisServer) -> None:
    async with opened(redis_server, shards=4) as broker:
        await broker.keep_shards()
        await broker.keep_shards()
        await broker.enqueue(STAGE, some_tasks(40))
        delayed, dead, *rest = await claim_all(broker)
        await broker.retry_later(delayed, delay_seconds=0, reason="busy")
        await broker.dead_letter(dead, reason="poison")
    async with opened(redis_server, shards=1) as leader:
        await leader.keep_shards()
        assert await leader.enqueue(STAGE, some_tasks(40)) == 0, "every one is known, wherever it is"
        for end in (lambda: leader.ack(rest), lambda: leader.promote_due(STAGE)):
            await end()
            await leader.keep_shards()
            assert leader._layout.now.before == (4,)
        assert await leader.requeue_dead(STAGE, [dead.task.id]) == 1
        for last in await claim(leader) + await claim(leader):  # each alone: they were delivered before
            await leader.keep_shards()
            assert leader._layout.now.before == (4,)
            await leader.dead_letter(last, reason="poison")
            assert await leader.drop_dead(STAGE, [last.task.id]) == 1
        await leader.keep_shards()
        assert (leader._layout.now.before, leader._layout.now.in_use) == ((), 1)
        await leader.enqueue(STAGE, some_tasks(40))
        assert {shard for shards in where(redis_server).values() for shard in shards} == {0}


async def test_tasks_that_were_offered_after_the_change_do_not_count_as_strays(
    redis_server: RedisServer,
) -> None:
    """If they did, the earlier number would be forgotten while a task still lies where it had put it."""
    async with opened(redis_server, shards=1) as before, opened(redis_server, shards=4) as leader:
        await before.enqueue(STAGE, some_tasks(3))
        held = await claim(before)
        await leader.keep_shards()
        await leader.enqueue(STAGE, some_tasks(60, first=100))
        assert await leader.ack(await claim_all(leader)) == []
        await leader.keep_shards()
        assert list(leader._layout.now.before) == [1]
        assert await leader.enqueue(STAGE, some_tasks(3)) == 0
        assert await leader.ack(held) == []
        await leader.keep_shards()
        assert list(leader._layout.now.before) == []


async def test_offers_claims_and_changes_at_once_lose_and_double_nothing(redis_server: RedisServer) -> None:
    """Three offer the same tasks and two claim them, while leaders change the number again and again."""
    tasks = some_tasks(2_000)
    done: Counter[str] = Counter()
    offered = 0
    ended = asyncio.Event()

    async def offer(broker: RedisBroker) -> None:
        nonlocal offered
        for first in range(0, len(tasks), 50):
            new = await broker.enqueue(STAGE, tasks[first : first + 50])
            offered += new

    async def work(broker: RedisBroker) -> None:
        while not ended.is_set():
            leases = await claim(broker, 20)
            # They are not acked: a task that is done may be offered again.
            done.update(lease.task.id for lease in leases)
            if not leases:
                await asyncio.sleep(0)

    async def change() -> None:
        for number in (4, 1, 8, 2, 4):
            async with opened(redis_server, shards=number) as leader:
                for _ in range(4):
                    await leader.keep_shards()
                    assert_none_is_in_two(redis_server)

    async with opened(redis_server, shards=1) as a, opened(redis_server, shards=8) as b:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work(broker)) for broker in (a, b)]
            async with asyncio.TaskGroup() as offers:
                for broker in (a, b, a):
                    offers.create_task(offer(broker))
                offers.create_task(change())
            while sum(done.values()) < len(tasks):  # noqa: ASYNC110 - the workers' counter
                await asyncio.sleep(0)
            ended.set()
            await asyncio.gather(*workers)
        assert offered == len(tasks)
        assert done == Counter(task.id for task in tasks)
        assert_none_is_in_two(redis_server)


async def test_a_job_that_moves_on_into_a_new_shard_during_the_look_is_not_missed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server, shards=8) as leader, opened(redis_server, shards=1) as looking:
        await leader.enqueue(Stage.CHUNKING, [a_task("chunk it")])
        look = looking._stages[Stage.CHUNKING].known_jobs
        next_task = next(one for one in some_tasks(100) if _home_of_four(one) != 0)

        async def move_on_then_look(jobs: Sequence[str]) -> set[str]:
            await leader.keep_shards()
            await leader.enqueue(STAGE, [next_task])
            [lease] = await leader.claim(
                Stage.CHUNKING, worker="w", max_tasks=1, max_cost=MAX_COST, lease_seconds=60
            )
            await leader.ack([lease])
            return await look(jobs)

        monkeypatch.setattr(looking._stages[Stage.CHUNKING], "known_jobs", move_on_then_look)
        assert await looking.known_jobs(["job"]) == {"job"}


async def test_new_shards_have_the_weights_before_they_have_a_task(redis_server: RedisServer) -> None:
    async with opened(redis_server, shards=4) as leader:
        await leader.set_shares({"heavy": TenantShare(weight=3)})
        await leader.keep_shards()
        with redis_server.client() as client:
            for shard in range(4):
                assert client.hlen(stage_key("embedfleet", STAGE, "shares", shard)) == 1


async def test_more_shards_are_no_loss_and_an_emptied_one_is(redis_server: RedisServer) -> None:
    async with opened(redis_server, shards=1) as before, opened(redis_server, shards=4) as leader:
        parts = set((await before.epoch()).split(","))
        await leader.keep_shards()
        more = set((await leader.epoch()).split(","))
        assert parts < more
        with redis_server.client() as client:
            client.delete(stage_key("embedfleet", STAGE, "meta", 3))
        assert not more <= set((await leader.epoch()).split(","))


async def test_queues_that_lost_all_their_keys_are_used_again_by_processes_that_know_the_layout(
    redis_server: RedisServer,
) -> None:
    async with opened(redis_server, shards=4) as leader, opened(redis_server, shards=4) as worker:
        await leader.keep_shards()
        await worker.enqueue(STAGE, some_tasks(10))
        with redis_server.client() as client:
            client.flushall()
        assert await worker.enqueue(STAGE, some_tasks(10)) == 10
        async with opened(redis_server, shards=4) as new_leader:
            await new_leader.keep_shards()
            assert await new_leader.enqueue(STAGE, some_tasks(10)) == 0
        assert_none_is_in_two(redis_server)
        assert len(await claim_all(worker)) == 10


async def test_a_leader_that_was_overtaken_changes_the_number_from_what_is_there_now(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the layout, then stands still while another leader raises the number and tasks come."""
    async with opened(redis_server, shards=4) as first:
        await first.keep_shards()
    async with opened(redis_server, shards=2) as late, opened(redis_server, shards=8) as other:
        read = late._look_at_layout

        async def read_then_stand_still() -> Layout:
            found = await read()
            monkeypatch.setattr(late, "_look_at_layout", read)
            await other.keep_shards()
            assert await other.enqueue(STAGE, some_tasks(80)) == 80
            return found

        monkeypatch.setattr(late, "_look_at_layout", read_then_stand_still)
        await late.keep_shards()
        assert late._layout.now.shards == 8, "its change was refused"
        await late.keep_shards()
        assert late._layout.now.shards == 2
        assert 8 in late._layout.now.before
        assert await late.enqueue(STAGE, some_tasks(80)) == 0, "all are known, wherever they are"
        assert len(await claim_all(late)) == 80
        assert_none_is_in_two(redis_server)


async def test_two_changes_of_one_layout_differ_also_where_its_version_is_ahead_of_the_clocks(
    redis_server: RedisServer,
) -> None:
    """A failover may lose the first of them, so that both processes believe in theirs."""
    ahead = Layout(version=2 * 10**15, shards=4, widest=4)
    found = []
    for number in (8, 2):
        async with opened(redis_server, shards=number) as leader:
            with redis_server.client() as client:
                client.flushall()
            leader._layout.hear(ahead.encode())
            await leader.keep_shards()
            found.append(leader._layout.now)
    assert [one.shards for one in found] == [8, 2]
    assert found[0].version != found[1].version
    assert all(one.version > ahead.version for one in found)


async def test_a_change_is_not_settled_in_place_of_the_next_one(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server, shards=1) as first:
        await first.enqueue(STAGE, [a_task("held")])
        held = await claim(first)
        async with opened(redis_server, shards=4) as late, opened(redis_server, shards=2) as other:
            await late.keep_shards()
            await first.ack(held)
            hear = late._stages[Stage.DELETION].hear

            async def hear_then_stand_still(layout: str) -> int:
                strays = await hear(layout)
                await late.enqueue(STAGE, some_tasks(40))
                await other.keep_shards()
                return strays

            monkeypatch.setattr(late._stages[Stage.DELETION], "hear", hear_then_stand_still)
            await late.keep_shards()
            assert late._layout.now.shards == 2
            assert 4 in late._layout.now.before
            assert len(await claim_all(late)) == 40


async def test_a_process_that_remembers_the_layout_restores_it_in_an_emptied_redis(
    redis_server: RedisServer,
) -> None:
    """Else a process that starts would be blind for all shards but the first, and place tasks by itself."""
    tasks = [task for task in some_tasks(50) if _home_of_four(task) != 0]
    async with opened(redis_server, shards=4) as leader:
        await leader.keep_shards()
        await leader.keep_shards()
        with redis_server.client() as client:
            client.flushall()
        await leader.enqueue(Stage.DELETION, tasks)
        await leader.keep_shards()
        async with opened(redis_server, shards=4) as new:
            assert await new.wait_for_ready(Stage.DELETION, timeout_seconds=0)
            assert await new.enqueue(Stage.DELETION, tasks) == 0
            assert (await new.depth(Stage.DELETION)).ready == len(tasks)


async def test_a_new_leader_finds_the_layout_in_the_stages_that_still_have_it(
    redis_server: RedisServer,
) -> None:
    """Only the server with the chunking queues lost its memory, and no process is left that knew it."""
    async with opened(redis_server, shards=4) as before:
        await before.keep_shards()
        await before.keep_shards()
        await before.enqueue(STAGE, some_tasks(40))
    with redis_server.client() as client:
        client.delete(stage_key("embedfleet", Stage.CHUNKING, "meta"))
    async with opened(redis_server, shards=1) as leader:
        await leader.keep_shards()
        assert leader._layout.now.before == (4,)
        assert await leader.enqueue(STAGE, some_tasks(40)) == 0
        assert len(await claim_all(leader)) == 40


class Away:
    """Shards of a stage whose server does not answer."""

    def __init__(self, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
        for number in numbers:
            scripts = broker._stages[STAGE].of(number)
            monkeypatch.setattr(scripts, "_server", self)

    async def run(self, *_: object, **__: object) -> object:
        raise BrokerUnavailable("its server is away")


async def test_a_claim_leaves_out_a_shard_that_is_away_and_keeps_what_it_has(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server, shards=4) as broker:
        await broker.keep_shards()
        await broker.enqueue(STAGE, some_tasks(80))
        there = [task for task in some_tasks(80) if _home_of_four(task) != 3]
        with monkeypatch.context() as patched:
            Away(broker, patched, 3)
            got = [lease for _ in range(8) for lease in await claim(broker)]
            assert {lease.task.id for lease in got} == {task.id for task in there}
            assert not await broker.wait_for_ready(STAGE, timeout_seconds=0)
        assert (await broker.depth(STAGE)).leased == len(got), "every lease was given to a worker"
        assert await broker.wait_for_ready(STAGE, timeout_seconds=0)
        assert len(await claim_all(broker)) == 80 - len(got)


async def test_a_claim_of_which_no_shard_answers_fails(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server, shards=4) as broker:
        await broker.keep_shards()
        Away(broker, monkeypatch, 0, 1, 2, 3)
        with pytest.raises(BrokerUnavailable, match="away"):
            await claim(broker)
        with pytest.raises(BrokerUnavailable, match="away"):
            await broker.wait_for_ready(STAGE, timeout_seconds=0)


async def test_a_claim_that_is_cancelled_in_its_second_shard_hands_back_the_first_ones_tasks(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server, shards=4) as broker:
        await broker.keep_shards()
        await broker.enqueue(STAGE, some_tasks(40))
        second = asyncio.Event()
        claims = 0

        def hanging_from_the_second_on(shard: StageScripts) -> Any:
            real = shard.claim

            async def claim_of_shard(*how: Any) -> tuple[list[Lease], bool]:
                nonlocal claims
                claims += 1
                if claims > 1:
                    second.set()
                    await asyncio.Event().wait()
                return await real(*how)

            return claim_of_shard

        for number in range(4):
            shard = broker._stages[STAGE].of(number)
            monkeypatch.setattr(shard, "claim", hanging_from_the_second_on(shard))
        claiming = asyncio.create_task(claim(broker))
        await asyncio.wait_for(second.wait(), HANG_SECONDS)
        assert (await broker.depth(STAGE)).leased > 0
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        depth = await broker.depth(STAGE)
        assert (depth.ready, depth.leased) == (40, 0)


async def test_upkeep_of_the_shards_that_answer_goes_on_while_one_is_away(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server, shards=4) as broker:
        await broker.keep_shards()
        await broker.enqueue(STAGE, some_tasks(80))
        leases = await claim(broker, lease_seconds=0.001)
        delayed = {lease.shard: lease for lease in leases}
        for lease in delayed.values():
            await broker.retry_later(lease, delay_seconds=0, reason="busy")
        await asyncio.sleep(0.01)
        with monkeypatch.context() as patched:
            Away(broker, patched, 0)
            for end in (broker.promote_due, broker.reap_expired):
                with pytest.raises(BrokerUnavailable, match="away"):
                    await end(STAGE)
        depths = [await broker._stages[STAGE].of(number).depth() for number in range(4)]
        assert [depth.delayed for depth in depths] == [1, 0, 0, 0]
        assert [depth.leased > 0 for depth in depths] == [True, False, False, False]


async def test_a_claim_goes_only_into_shards_with_work_and_begins_there_after_a_look(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(redis_server, shards=64) as broker:
        await broker.keep_shards()
        await broker.keep_shards()
        await broker.enqueue(STAGE, some_tasks(1))
        [home] = where(redis_server, shards=64)["job:1:0"]
        called: list[int] = []
        real = StageScripts.claim

        async def counted(shard: StageScripts, *how: Any) -> tuple[list[Lease], bool]:
            called.append(shard._shard)
            return await real(shard, *how)

        monkeypatch.setattr(StageScripts, "claim", counted)
        assert await broker.wait_for_ready(STAGE, timeout_seconds=0)
        [lease] = await claim(broker)
        assert called == [home]
        await broker.hand_back([lease])
        called.clear()
        assert await claim(broker)
        assert home in called
        assert len(called) <= 2, "the one whose turn it is, and the one with work"


async def test_the_shards_of_storage_have_one_room_and_each_of_embedding_has_its_own(
    redis_server: RedisServer,
) -> None:
    pool = PoolSettings(max_queued_tasks=40)
    room = {"max_tasks": 40, "max_cost": MAX_COST}
    async with opened(redis_server, shards=4) as broker:
        await broker.keep_shards()
        await broker.enqueue(Stage.STORAGE, some_tasks(40))
        depth = await broker.depth(Stage.STORAGE)
        assert pool.is_full(ready_tasks=depth.ready, ready_tokens=depth.ready_cost)
        await broker.enqueue(Stage.EMBEDDING, some_tasks(100))
        assert await broker.crowded(Stage.EMBEDDING, ["acme"], **room) == set(), "25 of 40 on average"
        await broker.enqueue(Stage.EMBEDDING, some_tasks(60, first=100))
        assert await broker.crowded(Stage.EMBEDDING, ["acme"], **room) == {"acme"}


async def test_the_shards_of_one_stage_are_on_several_nodes(redis_cluster: RedisClusterServers) -> None:
    broker = await RedisBroker.open(redis_settings(redis_cluster.url, shards=6))
    await broker.keep_shards()
    await broker.enqueue(STAGE, some_tasks(60))
    keys = [stage_key("embedfleet", STAGE, "tasks", shard) for shard in range(6)]
    assert len({redis_cluster.holder(key).port for key in keys}) > 1
    leases = await claim_all(broker)
    assert len(leases) == 60
    assert await broker.ack(leases) == []
    await broker.close()


def _home_of_four(task: Task) -> int:
    return Layout(shards=4).home(task.id)
