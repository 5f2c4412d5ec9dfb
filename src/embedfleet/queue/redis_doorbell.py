"""Receives the notifications of other processes that a stage has claimable work again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from redis.asyncio.client import PubSub

from embedfleet.queue.redis_errors import REDIS_FAILURES
from embedfleet.queue_schemas import Stage

# The pause between two tries to subscribe. Until then, waiting workers look for themselves.
_RECONNECT_SECONDS = 0.2
# After this long without a message, redis-py checks the connection before the next read.
_QUIET_SECONDS = 30.0
# How long `close` waits for the listener to end before it cancels it again.
_CANCEL_AGAIN_SECONDS = 0.05


class Doorbell:
    """One subscription for all stages. A message on a stage's channel rings for all callers that wait for it.

    It also rings for all stages after every new connection, because earlier messages were not received. A
    caller takes the next ring, then looks for work, then waits for the ring. In this order it misses no work
    while the connection lives.
    """

    def __init__(self, listen: Callable[[], PubSub], channels: Mapping[str, Stage]) -> None:
        self._listen = listen
        self._channels = {channel.encode(): stage for channel, stage in channels.items()}
        self._rings: dict[Stage, asyncio.Future[None]] = {}
        self._listener: asyncio.Task[None] | None = None

    def next_ring(self, stage: Stage) -> asyncio.Future[None]:
        """Return a future that is done at the stage's next ring. The first call begins to listen.

        Callers share the future, so they must not cancel it.
        """
        if self._listener is None:
            self._listener = asyncio.create_task(self._keep_listening(), name="redis-doorbell")
        ring = self._rings.get(stage)
        if ring is None:
            ring = self._rings[stage] = asyncio.get_running_loop().create_future()
        return ring

    async def close(self) -> None:
        """Stop listening, and ring for all stages, so that no caller waits on."""
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
        for stage in list(self._rings):
            self._ring(stage)

    def _ring(self, stage: Stage) -> None:
        # Taken out first: a caller that looks for work after this ring waits for the next one.
        ring = self._rings.pop(stage, None)
        if ring is not None:
            ring.set_result(None)
