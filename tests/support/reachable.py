"""A real database whose absence a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from embedfleet.errors import DatabaseUnavailable
from embedfleet.sql.database import Database

T = TypeVar("T")


class Reachable(Database):
    """A database that goes away and comes back when a test says so. `asked` is set with each unit."""

    def __init__(self, url: str) -> None:
        super().__init__(url, synchronous="normal")
        self.away = False
        self.asked = asyncio.Event()

    async def write(self, work: Callable[[Connection], T]) -> T:
        self._ask()
        return await super().write(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        self._ask()
        return await super().read(work)

    def _ask(self) -> None:
        self.asked.set()
        if self.away:
            raise DatabaseUnavailable("the database is away, for a test")
