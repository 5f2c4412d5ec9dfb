"""Who is alone has nobody beside him; who waits for that stops nobody for ever."""

from __future__ import annotations

import asyncio
import random

from embedfleet.workers.company import Company


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_waits_until_all_others_have_parted_and_nobody_joins_meanwhile() -> None:
    company = Company()
    told: list[str] = []

    async def loner() -> None:
        async with company.joined(), company.alone() as alone:
            told.append(f"alone: {alone}")
            await turns()
            told.append("parts")

    async def latecomer() -> None:
        async with company.joined():
            told.append("late")

    async with asyncio.TaskGroup() as tasks, company.joined():
        tasks.create_task(loner())
        await turns()
        assert company.should_part
        assert not company.is_alone
        tasks.create_task(latecomer())
        await turns()
        assert told == []
        told.append("others part")
    assert told == ["others part", "alone: True", "parts", "late"]
    assert not company.should_part


async def test_of_two_who_want_to_be_alone_the_second_is_refused_at_once() -> None:
    company = Company()

    async def second() -> bool:
        async with company.joined():
            await turns()
            async with company.alone() as alone:
                return alone

    waiting = asyncio.create_task(second())
    await asyncio.sleep(0)
    async with company.joined(), company.alone() as alone:
        assert alone
        assert await waiting is False


async def test_whoever_is_cancelled_while_waiting_leaves_the_way_free() -> None:
    company = Company()

    async def loner() -> None:
        async with company.joined(), company.alone():
            raise AssertionError("never alone")

    async with company.joined():
        waiting = asyncio.create_task(loner())
        await turns()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not company.should_part
    async with asyncio.timeout(5), company.joined(), company.alone() as alone:
        assert alone


async def test_in_a_crowd_nobody_is_ever_beside_a_loner() -> None:
    rng = random.Random(7)
    company = Company()
    inside: set[int] = set()
    lone = 0

    async def one(number: int) -> None:
        nonlocal lone
        for _ in range(50):
            async with company.joined():
                assert not company.is_alone
                inside.add(number)
                await asyncio.sleep(0)
                if rng.random() < 0.3:
                    async with company.alone() as alone:
                        if alone:
                            assert inside == {number}
                            lone += 1
                            await turns()
                            assert inside == {number}
                inside.discard(number)

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(one(number))
    assert lone > 20
