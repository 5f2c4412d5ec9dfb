"""Requests for one document are served in order; those for others do not wait."""

from __future__ import annotations

import asyncio

from embedfleet.traffic.document_turns import DocumentTurns


async def test_requests_for_one_document_come_in_the_order_in_which_they_asked() -> None:
    turns = DocumentTurns()
    served: list[int] = []

    async def serve(number: int) -> None:
        async with turns.of("alice", "a"):
            served.append(number)
            await asyncio.sleep(0)
            served.append(number)

    await asyncio.gather(*(serve(number) for number in range(5)))
    assert served == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


async def test_another_document_does_not_wait() -> None:
    turns = DocumentTurns()
    async with turns.of("alice", "a"), turns.of("alice", "b"), turns.of("alicea", ""):
        pass


async def test_a_caller_that_is_cancelled_gives_its_place_up_and_nothing_is_kept() -> None:
    turns = DocumentTurns()

    async def wait() -> None:
        async with turns.of("alice", "a"):
            pass

    async with turns.of("alice", "a"):
        waiting = [asyncio.create_task(wait()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert waiting[0].cancelled()
    assert not waiting[1].cancelled()
    assert turns._lines == {}
