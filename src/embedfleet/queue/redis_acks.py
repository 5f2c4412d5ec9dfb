"""Combines the acks that are made at the same time into one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from embedfleet.queue.broker import Lease
from embedfleet.queue.redis_parts import parts
from embedfleet.queue.redis_scripts import Holder

Send = Callable[[Sequence[Lease]], Awaitable[list[Holder]]]


class CombinedAcks:
    """Sends the acks of one stage. All acks made in one turn of the event loop go in one call.

    A worker that finished a claim acks its tasks at the same time. So it pays one round trip and not one for
    each task. A call that was sent goes on even if one of its callers is cancelled, because the others wait
    for it too.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: list[tuple[Lease, asyncio.Future[Holder]]] = []
        self._senders: set[asyncio.Task[None]] = set()

    async def ack(self, lease: Lease) -> Holder:
        """Ack the task and return its holder (see `Holder`). Raises the error of the shared call."""
        answer: asyncio.Future[Holder] = asyncio.get_running_loop().create_future()
        self._waiting.append((lease, answer))
        # The first ack of a turn starts the sender. It runs at the next turn, when all others have joined.
        if len(self._waiting) == 1:
            sender = asyncio.create_task(self._send_waiting(), name="redis-acks")
            # The event loop holds tasks weakly: without this one the sender could be collected in mid-call.
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return await answer

    async def settle(self) -> None:
        """Wait until no call is under way."""
        await asyncio.gather(*self._senders)

    async def _send_waiting(self) -> None:
        """Send all waiting acks. This runs one turn of the event loop after the first of them was made."""
        # Taken before the call: an ack that is made during it begins the next call.
        waiting, self._waiting = self._waiting, []
        for part in parts(waiting):
            try:
                holders = await self._send([lease for lease, _ in part])
            except Exception as exc:  # noqa: BLE001 - every caller that waits raises it
                for _, answer in part:
                    if not answer.done():
                        answer.set_exception(exc)
                continue
            for (_, answer), holder in zip(part, holders, strict=True):
                if not answer.done():  # its caller was cancelled
                    answer.set_result(holder)
