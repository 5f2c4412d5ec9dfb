"""Waiting: a stop ends a pause, and a loop after the step it is in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from embedfleet.waiting import cancel_and_wait, in_groups, one_ahead, repeat, to_its_end, wait_briefly
from support.hangs import HANG_SECONDS


async def test_a_stop_ends_a_pause() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    async with asyncio.timeout(HANG_SECONDS):
        await wait_briefly(stop, 3600.0)


async def test_a_loop_repeats_its_step_until_it_is_stopped() -> None:
    stop = asyncio.Event()
    steps: list[int] = []

    async def step() -> None:
        steps.append(len(steps))
        if len(steps) == 3:
            stop.set()

    async with asyncio.timeout(HANG_SECONDS):
        await repeat(stop, step, seconds=0.0)
    assert steps == [0, 1, 2]


async def test_a_loop_that_is_stopped_before_it_begins_takes_no_step() -> None:
    stop = asyncio.Event()
    stop.set()

    async def step() -> None:
        raise AssertionError("not to be called")

    await repeat(stop, step, seconds=0.0)


async def test_what_a_step_raises_ends_the_loop() -> None:
    async def step() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await repeat(asyncio.Event(), step, seconds=0.0)


async def test_cancel_and_wait_returns_after_the_task_has_cleaned_up_and_drops_what_it_raised() -> None:
    begun, cleaned_up = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # cleaning up takes a turn of the loop
            cleaned_up.set()
            raise ValueError("failed while it was cancelled")

    task = asyncio.create_task(work())
    await begun.wait()
    await cancel_and_wait(task)
    assert cleaned_up.is_set()
    assert task.done()


async def test_items_come_in_groups_and_none_is_lost_when_their_source_fails() -> None:
    async def items() -> AsyncGenerator[str, None]:
        for item in ("a", "bb", "cccc", "d"):
            yield item
        raise ConnectionError

    groups = in_groups(items(), size_of=len, full=3, longest_wait_seconds=HANG_SECONDS)
    assert [await anext(groups) for _ in range(3)] == [["a", "bb"], ["cccc"], ["d"]]
    with pytest.raises(ConnectionError):
        await anext(groups)


async def test_an_item_does_not_wait_for_a_next_one_that_takes_long() -> None:
    go_on = asyncio.Event()

    async def items() -> AsyncGenerator[str, None]:
        yield "a"
        await go_on.wait()
        yield "b"

    groups = in_groups(items(), size_of=len, full=100, longest_wait_seconds=0.001)
    async with asyncio.timeout(HANG_SECONDS):
        assert await anext(groups) == ["a"]
        go_on.set()
        assert [group async for group in groups] == [["b"]]


async def test_work_goes_to_its_end_although_its_caller_is_cancelled_twice() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def work() -> str:
        begun.set()
        await go_on.wait()
        done.append("all")
        return "result"

    waiting = asyncio.create_task(to_its_end(work()))
    await begun.wait()
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == ["all"]
    assert await to_its_end(work()) == "result"


async def test_the_next_item_is_prepared_while_one_is_in_use_and_no_further_one() -> None:
    begun: list[int] = []

    async def prepare(item: int) -> int:
        begun.append(item)
        await asyncio.sleep(0)
        return item * 10

    seen: list[tuple[int, list[int]]] = []
    async with asyncio.timeout(HANG_SECONDS):
        async for made in one_ahead(range(4), prepare):
            await asyncio.sleep(0)
            seen.append((made, list(begun)))
    assert seen == [(0, [0, 1]), (10, [0, 1, 2]), (20, [0, 1, 2, 3]), (30, [0, 1, 2, 3])]


async def test_what_is_prepared_ahead_ends_with_its_user() -> None:
    ended: list[int] = []

    async def prepare(item: int) -> int:
        try:
            if item:
                await asyncio.Event().wait()
        finally:
            ended.append(item)
        return item

    async with asyncio.timeout(HANG_SECONDS):
        made = one_ahead(range(3), prepare)
        assert await anext(made) == 0
        await asyncio.sleep(0)
        await made.aclose()
    assert ended == [0, 1]


async def test_an_item_that_cannot_be_prepared_raises_after_those_before_it() -> None:
    async def prepare(item: int) -> int:
        return 6 // (2 - item)

    made = one_ahead(range(5), prepare)
    assert [await anext(made), await anext(made)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        await anext(made)
