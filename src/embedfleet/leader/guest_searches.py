"""The duty that answers the searches of guests. Guests have no vector store and no model, and ask in SQL."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.leader.waiting_work import WaitingWork
from embedfleet.searching.search import SearchService


class GuestSearches(LeaderDuty):
    """Answers the searches of other processes."""

    name: ClassVar = "guest searches"
    works_again: ClassVar = "searches of other processes are answered again"

    def __init__(self, search: SearchService, waiting: WaitingWork, clock: Clock) -> None:
        self._search = search
        self._waiting = waiting
        self._clock = clock
        self._forgot_abandoned = False

    async def step(self) -> None:
        # Once after the start is enough: a guest removes its search, unless it is killed.
        if not self._forgot_abandoned:
            await self._search.forget_abandoned(self._clock.now())
            self._forgot_abandoned = True
        if (await self._waiting.now()).searches:
            await self._search.answer_waiting()
