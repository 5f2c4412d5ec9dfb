"""A loop with exclusive use of the slot has no other beside it, and waiting for it ends."""

from __future__ import annotations

import asyncio
import random

from embedfleet.workers.exclusive_slot import ExclusiveSlot
from support.hangs import HANG_SECONDS


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_exclusive_use_waits_until_all_others_have_left_and_none_joins_before_its_end() -> None:
    slot = ExclusiveSlot()
    told: list[str] = []

    async def exclusive_loop() -> None:
        async with slot.shared(), slot.exclusive() as exclusive:
            told.append(f"exclusive: {exclusive}")
            await turns()
            told.append("leaves")

    async def latecomer() -> None:
        async with slot.shared():
            told.append("late")

    async with asyncio.TaskGroup() as tasks, slot.shared():
        tasks.create_task(exclusive_loop())
        await turns()
        assert slot.should_yield
        assert not slot.held_exclusively
        tasks.create_task(latecomer())
        await turns()
        assert told == []
        told.append("others leave")
    assert told == ["others leave", "exclusive: True", "leaves", "late"]
    assert not slot.should_yield


async def test_of_two_loops_that_want_exclusive_use_the_second_is_refused_at_once() -> None:
    slot = ExclusiveSlot()

    async def second() -> bool:
        async with slot.shared():
            await turns()
            async with slot.exclusive() as exclusive:
                return exclusive

    waiting = asyncio.create_task(second())
    await asyncio.sleep(0)
    async with slot.shared(), slot.exclusive() as exclusive:
        assert exclusive
        assert await waiting is False


async def test_others_are_waited_for_once_and_may_join_again_if_they_take_too_long() -> None:
    slot = ExclusiveSlot(patience_seconds=0.01)
    at_work, done = asyncio.Event(), asyncio.Event()

    async def long_at_work() -> None:
        async with slot.shared():
            at_work.set()
            await done.wait()

    async def ask() -> bool:
        async with slot.shared(), slot.exclusive() as exclusive:
            assert slot.is_closed is exclusive
            return exclusive

    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(long_at_work())
        await at_work.wait()
        assert await ask() is False
        async with slot.shared():  # the way is free
            pass
        patience = slot.patience_seconds
        assert await ask() is False
        assert slot.patience_seconds == patience, "it waited once more"
        done.set()
    assert await ask() is True
    assert slot.patience_seconds == 0.01


async def test_a_loop_gets_exclusive_use_in_the_end_however_long_the_claims_of_others_take() -> None:
    slot = ExclusiveSlot(patience_seconds=0.0001)
    stop = asyncio.Event()
    vain = 0

    async def busy(first_seconds: float) -> None:
        await asyncio.sleep(
            first_seconds
        )  # so that the claims of the two overlap, and the slot is never free
        while not stop.is_set():
            async with slot.shared():
                await asyncio.sleep(0.02)

    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(busy(0))
        tasks.create_task(busy(0.01))
        while True:
            await asyncio.sleep(0.005)
            async with slot.shared(), slot.exclusive() as exclusive:
                if exclusive:
                    break
                vain += 1
        stop.set()
    assert vain


async def test_a_loop_cancelled_while_it_waits_leaves_the_way_free() -> None:
    slot = ExclusiveSlot()

    async def exclusive_loop() -> None:
        async with slot.shared(), slot.exclusive():
            raise AssertionError("never exclusive")

    async with slot.shared():
        waiting = asyncio.create_task(exclusive_loop())
        await turns()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not slot.should_yield
    async with asyncio.timeout(HANG_SECONDS), slot.shared(), slot.exclusive() as exclusive:
        assert exclusive


async def test_in_a_crowd_no_loop_is_ever_beside_one_with_exclusive_use() -> None:
    rng = random.Random(7)
    slot = ExclusiveSlot()
    inside: set[int] = set()
    times_exclusive = 0

    async def one(number: int) -> None:
        nonlocal times_exclusive
        for _ in range(50):
            async with slot.shared():
                assert not slot.held_exclusively
                inside.add(number)
                await asyncio.sleep(0)
                if rng.random() < 0.3:
                    async with slot.exclusive() as exclusive:
                        if exclusive:
                            assert inside == {number}
                            times_exclusive += 1
                            await turns()
                            assert inside == {number}
                inside.discard(number)

    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(one(number))
    assert times_exclusive > 20
