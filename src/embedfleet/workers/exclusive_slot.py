"""A readers/writer lock over the loops of one process: many share the slot, or one has it exclusively.

A task that may have killed its worker is tried exclusively, so that no other task is blamed for it. A death
leaves no exception: every task that its process had in hand counts as tried. From its second try on, a task
is therefore done while nothing else is at work in the whole process. If the process dies again, this task
was the cause (or an outside kill, which hardly ever meets the same task twice).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ExclusiveSlot:
    """Holds for the loops of one process that have work in hand. All must belong to one event loop.

    It differs from a plain readers/writer lock in one way: exclusive use is taken by a loop that shares the
    slot already, so its claim stays covered, and only one loop may wait for it at a time.
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
        """Whether a loop waits for exclusive use: others finish, or hand back what may take long."""
        return self._exclusive_wanted and not self._held_exclusively

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Share the slot. Hold it from before a claim until all of the claim is settled.

        Waits while a loop has or wants exclusive use, so that a stream of new claims cannot starve that loop.
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
        """Have the slot exclusively: yields True once no other loop shares it, and none joins until the end.

        Call it inside `shared`, with nothing at work. If another loop has or wants exclusive use, it yields
        False at once: two sharers that waited for each other to leave would wait for ever.
        """
        if self._exclusive_wanted:
            yield False
            return
        self._exclusive_wanted = True
        try:
            while self._sharing > 1:  # the caller itself is one
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
