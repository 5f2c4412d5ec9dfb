"""A task that may be what killed its worker is tried alone, so that no other is blamed for it.

A death leaves no exception: every task its process had in hand is counted as tried. So from its second try on
a task is done while nothing else is at work in the whole process; if that dies again, it was this task (or
somebody's kill, which hardly ever meets the same task twice).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Company:
    """The loops of one process that have work in hand. All belong to one event loop."""

    def __init__(self) -> None:
        self._present = 0
        self._loner = False  # somebody is alone, or waits until he is
        self.is_alone = False
        self._changed = asyncio.Event()

    @property
    def should_part(self) -> bool:
        """Somebody wants to be alone: finish, or hand back what may take long."""
        return self._loner and not self.is_alone

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """To be held from before a claim until all of it is settled. Waits while somebody is alone."""
        while self._loner:
            await self._change()
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1
            self._tell()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Within `joined`, with nothing at work: True once all others have parted; nobody joins meanwhile.
        False, at once, if somebody else wants to be alone."""
        if self._loner:
            yield False
            return
        self._loner = True
        try:
            while self._present > 1:
                await self._change()
            self.is_alone = True
            yield True
        finally:
            self._loner = self.is_alone = False
            self._tell()

    async def _change(self) -> None:
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
