"""Receives the notifications of other processes: a stage has claimable work again, a mailbox an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from redis.asyncio.client import PubSub

from embedfleet.queue.redis_errors import REDIS_FAILURES

# The pause between two tries to subscribe. Until then, waiting workers look for themselves.
_RECONNECT_SECONDS = 0.2
# After this long without a message, redis-py checks the connection before the next read.
_QUIET_SECONDS = 30.0
# How long `close` waits for the listener to end before it cancels it again.
_CANCEL_AGAIN_SECONDS = 0.05


class Doorbell:
    """One subscription for all channels. A message on a channel rings for all callers that wait for it.

    It also rings on all channels after every new connection, because earlier messages were not received. A
    caller takes the next ring, then looks for work, then waits for the ring. In this order it misses no work
    while the connection lives.
    """

    def __init__(self, listen: Callable[[], PubSub], channels: Collection[str]) -> None:
        self._listen = listen
        self._channels = {channel.encode(): channel for channel in channels}
        self._rings: dict[str, asyncio.Future[None]] = {}
        self._listener: asyncio.Task[None] | None = None

    def next_ring(self, channel: str) -> asyncio.Future[None]:
        """Return a future that is done at the channel's next ring. The first call begins to listen.

        Callers share the future, so they must not cancel it.
        """
        if self._listener is None:
            self._listener = asyncio.create_task(self._keep_listening(), name="redis-doorbell")
        ring = self._rings.get(channel)
        if ring is None:
            ring = self._rings[channel] = asyncio.get_running_loop().create_future()
        return ring

    async def close(self) -> None:
        """Stop listening, and ring on all channels, so that no caller waits on."""
        while self._listener is not None and not self._listener.done():
            self._listener.cancel()
            # Cancel until it ends: `asyncio.wait_for` of Python 3.11, in redis-py, can lose a cancellation.
            await asyncio.wait([self._listener], timeout=_CANCEL_AGAIN_SECONDS)
        self._ring_all()

    async def _keep_listening(self) -> None:
        while True:
            try:
                async with self._listen() as subscription:
                    await subscription.subscribe(*self._channels)
                    await self._hear(subscription)
            except REDIS_FAILURES:
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def _hear(self, subscription: PubSub) -> None:
        while True:
            message = await subscription.get_message(timeout=_QUIET_SECONDS)
            if message is None:
                continue  # no message for `_QUIET_SECONDS`
            if message["type"] == "subscribe":
                # What was published before this moment was not received: every caller looks for itself.
                self._ring_all()
            elif message["type"] == "message":
                self._ring(self._channels[message["channel"]])

    def _ring_all(self) -> None:
        for channel in list(self._rings):
            self._ring(channel)

    def _ring(self, channel: str) -> None:
        # Taken out first: a caller that looks for work after this ring waits for the next one.
        ring = self._rings.pop(channel, None)
        if ring is not None:
            ring.set_result(None)
