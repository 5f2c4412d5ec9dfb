"""A readers/writer lock over the loops of one process: many share the slot, or one has it exclusively.

A task that may have killed its worker is tried with exclusive use of the slot, so that no other task is
blamed for the next death. A death leaves no exception, so it counts as a try of every task that the process
had in hand. From its second try on, a task therefore runs while nothing else is at work in the process. If
the process dies again, this task was the cause. (A kill from outside could be the cause too, but it hardly
ever meets the same task twice.)

While a loop waits for the others to leave, none of them may begin anything new. So it waits for a limited
time: another loop's call may hang for minutes, and all tenants would wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# How long a loop waits for the others at first. The claims of most models are done by then.
_PATIENCE_SECONDS = 10.0


class ExclusiveSlot:
    """The lock that every loop of a process holds while it has work in hand. All belong to one event loop.

    It differs from a plain readers/writer lock: a loop that wants exclusive use shares the slot already. So
    its claim is covered all the time. Only one loop at a time may wait for exclusive use.

    A wait has a limit, after which the others go on. No further wait begins until all that shared the slot at
    that moment have left it, so what hangs is waited for once. The next wait may take twice as long: however
    long claims take, a loop gets exclusive use in the end.
    """

    def __init__(self, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """`patience_seconds` is the limit of the first wait, and of the first one after a success."""
        # An object for each loop that shares the slot.
        self._sharing: set[object] = set()
        # Those that did not leave in the last wait. While any is left, waiting would be in vain.
        self._long_at_work: set[object] = set()
        self._first_patience_seconds = self._patience_seconds = patience_seconds
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

    @property
    def is_closed(self) -> bool:
        """Whether a loop has or waits for exclusive use, so that none joins."""
        return self._exclusive_wanted

    @property
    def patience_seconds(self) -> float:
        """How long the next wait for exclusive use may take."""
        return self._patience_seconds

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Share the slot from before a claim until every task of the claim is settled.

        This waits while a loop has or wants exclusive use, so that new claims cannot starve that loop.
        """
        while self._exclusive_wanted:
            await self._next_change()
        share = object()
        self._sharing.add(share)
        try:
            yield
        finally:
            self._sharing.discard(share)
            self._long_at_work.discard(share)
            self._notify()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[bool]:
        """Have the slot exclusively. Yields True when no other loop shares it; none joins until the end.

        Call it inside `shared`, while this loop runs no task. If another loop has or wants exclusive use, it
        yields False at once: two loops that waited for each other to leave would wait for ever. It yields
        False too if the others do not leave in time, or did not before and are still there.
        """
        if self._exclusive_wanted or self._long_at_work or not await self._others_left():
            yield False
            return
        try:
            yield True
        finally:
            self._open()

    async def _others_left(self) -> bool:
        """Let no loop join, and wait until the caller is alone. After too long, let them join again."""
        self._exclusive_wanted = True
        try:
            async with asyncio.timeout(self._patience_seconds):
                while len(self._sharing) > 1:  # the caller itself is one of them
                    await self._next_change()
        except TimeoutError:
            self._long_at_work = set(self._sharing)  # the caller leaves at once
            self._patience_seconds *= 2
            self._open()
            return False
        except BaseException:
            self._open()
            raise
        self._patience_seconds = self._first_patience_seconds
        self._held_exclusively = True
        return True

    def _open(self) -> None:
        self._exclusive_wanted = self._held_exclusively = False
        self._notify()

    async def _next_change(self) -> None:
        await self._changed.wait()

    def _notify(self) -> None:
        """Wake every waiter once. Each has taken the old event, so a new one serves the next change."""
        self._changed.set()
        self._changed = asyncio.Event()
