"""A readers/writer lock over the loops of one process: many share the slot, or one has it exclusively.

A task that may have killed its worker is tried with exclusive use of the slot, so that no other task is
blamed for the next death. A death leaves no exception, so it counts as a try of every task that the process
had in hand. From its second try on, a task therefore runs while nothing else is at work in the process. If
the process dies again, this task was the cause. (A kill from outside could be the cause too, but it hardly
ever meets the same task twice.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ExclusiveSlot:
    """The lock that every loop of a process holds while it has work in hand. All belong to one event loop.

    It differs from a plain readers/writer lock: a loop that wants exclusive use shares the slot already. So
    its claim is covered all the time. Only one loop at a time may wait for exclusive use.
    """

    def __init__(self) -> None:
        self._sharing = 0
        self._exclusive_wanted = False  # one loop has the slot exclusively, or waits for it
        self._held_exclusively = False
        self._changed = asyncio.Event()

    @property
    def held_exclusively(self) -> bool:
        """Whether one loop works and all others wait."""
        return self._held_exclusively

    @property
    def should_yield(self) -> bool:
        """Whether a loop waits for exclusive use. The others then finish, or hand back a long task."""
        return self._exclusive_wanted and not self._held_exclusively

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Share the slot from before a claim until every task of the claim is settled.

        This waits while a loop has or wants exclusive use, so that new claims cannot starve that loop.
        """
        while self._exclusive_wanted:
            await self._next_change()
        self._sharing += 1
        try:
            yield
        finally:
            self._sharing -= 1
            self._notify()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[bool]:
        """Have the slot exclusively. Yields True when no other loop shares it; none joins until the end.

        Call it inside `shared`, while this loop runs no task. If another loop has or wants exclusive use, it
        yields False at once: two loops that waited for each other to leave would wait for ever.
        """
        if self._exclusive_wanted:
            yield False
            return
        self._exclusive_wanted = True
        try:
            while self._sharing > 1:  # the caller itself is one of them
                await self._next_change()
            self._held_exclusively = True
            yield True
        finally:
            self._exclusive_wanted = self._held_exclusively = False
            self._notify()

    async def _next_change(self) -> None:
        await self._changed.wait()

    def _notify(self) -> None:
        """Wake every waiter once. Each has taken the old event, so a new one serves the next change."""
        self._changed.set()
        self._changed = asyncio.Event()
