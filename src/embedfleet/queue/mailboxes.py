"""The mailboxes of `MemoryBroker`: answers that wait for the process that asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from embedfleet.clock import Clock
from embedfleet.queue_schemas import Stage

_Name = tuple[Stage, str]


class Mailboxes:
    """Answers by mailbox, as `Broker.answer` promises. A mailbox without answers takes no memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: dict[_Name, list[bytes]] = {}
        self._expiries: dict[_Name, float] = {}
        self._waiting: dict[_Name, asyncio.Event] = {}

    def put(self, name: _Name, answers: Sequence[bytes], *, keep_seconds: float) -> None:
        self._drop_expired()
        if not answers:
            return
        self._answers.setdefault(name, []).extend(answers)
        self._expiries[name] = self._clock.now() + keep_seconds
        if name in self._waiting:
            self._waiting[name].set()

    async def take(self, name: _Name, *, timeout_seconds: float) -> list[bytes]:
        self._drop_expired()
        if name not in self._answers:
            came = self._waiting.setdefault(name, asyncio.Event())
            try:
                async with asyncio.timeout(timeout_seconds):
                    await came.wait()
            except TimeoutError:
                return []
            finally:
                self._waiting.pop(name, None)
        self._expiries.pop(name, None)
        return self._answers.pop(name, [])

    def close(self) -> None:
        """Wake all that wait."""
        for came in self._waiting.values():
            came.set()

    def _drop_expired(self) -> None:
        """Drop the mailboxes that are not emptied. There is one for each process that asks: they are few."""
        now = self._clock.now()
        for name in [name for name, expiry in self._expiries.items() if expiry <= now]:
            del self._expiries[name], self._answers[name]
