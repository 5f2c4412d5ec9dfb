"""Acks made at the same time travel together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from embedfleet.queue.broker import Lease
from embedfleet.queue.redis_parts import parts
from embedfleet.queue.redis_scripts import Holder

Send = Callable[[Sequence[Lease]], Awaitable[list[Holder]]]


class TogetherAcks:
    """Acks of one stage: those that are asked for in one turn of the event loop are one call.

    A worker that finished a batch acks its tasks at once, and pays one round trip instead of eight. A
    call under way is finished even if who asked for it is cancelled: others wait for it too.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: list[tuple[Lease, asyncio.Future[Holder]]] = []
        self._senders: set[asyncio.Task[None]] = set()

    async def ack(self, lease: Lease) -> Holder:
        """Who holds the task; raises what the call raised."""
        answer: asyncio.Future[Holder] = asyncio.get_running_loop().create_future()
        self._waiting.append((lease, answer))
        if len(self._waiting) == 1:
            sender = asyncio.create_task(self._send_waiting(), name="redis-acks")
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await answer

    async def settle(self) -> None:
        """Until no call is under way."""
        await asyncio.gather(*self._senders)

    async def _send_waiting(self) -> None:
        """Runs in the turn after the first was asked for."""
        waiting, self._waiting = self._waiting, []
        for part in parts(waiting):
            try:
                holders = await self._send([lease for lease, _ in part])
            except Exception as exc:  # noqa: BLE001 - it is raised where it is waited for
                for _, answer in part:
                    if not answer.done():
                        answer.set_exception(exc)
                continue
            for (_, answer), holder in zip(part, holders, strict=True):
                if not answer.done():
                    answer.set_result(holder)
