"""A backfill gives way to the searches of its process: it works by turns, and rests between them.

In a turn, a number of documents is begun, and with them the twins of all that was submitted since the last
turn. They reach the vector store together: a write of many rows takes little longer than one of a few, and a
search waits for the write that is under way. Between turns, searches meet nothing of the switch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic

from embedfleet.clock import Clock
from embedfleet.metrics.search_times import SearchTimes
from embedfleet.model_switching.held_twins import HeldTwins
from embedfleet.model_switching.pace import SearchPace
from embedfleet.records import model_switches
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase

# A turn ends at the latest after this time, as a task of it may be put off for long.
_LONGEST_TURN_SECONDS = 30.0
# The rest after a turn is this, divided by the share, within bounds: what is submitted waits for a turn.
_REST_SECONDS = 0.1
_LEAST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.25, 5.0
# Beside searches, the gate asks in a fifth of the time.
_REST_PER_SECOND_OF_ASKING = 4.0


class GivingWay:
    """Says how many documents a step of the switcher may begin. It is of the leader's process."""

    def __init__(
        self, database: Database, clock: Clock, searches: SearchTimes, *, max_slowdown: float
    ) -> None:
        """`max_slowdown` is as in `SearchPace`. `searches` are those that this process answers."""
        self._database = database
        self._clock = clock
        self._searches = searches
        self._pace = SearchPace(max_slowdown)
        self.held = HeldTwins()
        # Jobs that were begun by this instant belong to the turn; None: there is nothing to give way to.
        self._until: float | None = None
        self._turn_began: float | None = None
        self._rests_until = 0.0
        # The orders that had a switch to carry on in the last step.
        self._campaigns: set[str] = set()

    @property
    def share(self) -> float | None:
        """The share at which documents are begun; None: searches need not be given way to."""
        return self._pace.share(monotonic())

    def no_switch(self) -> None:
        """Hear of the searches while no switch is under way: they tell what a search takes without one."""
        self._pace.hear(self._searches.take())
        self._forget(())

    async def allowed(self, running: Sequence[ModelSwitch]) -> float:
        """Return the share of its most documents that a switch may begin now; 0: none, until a later step.

        After a step that began documents, call `begun`.
        """
        self._pace.hear(self._searches.take())
        self._meet(running)
        share = self.share
        if share is None:
            self._forget(running)
            return 1.0
        if self._until is None:  # a search has come: what is under way is done first
            self._until, self._turn_began = self._clock.now(), monotonic()
            self._pace.turn_begins(self._turn_began)
        self._hold(running, self._until)
        if self._turn_began is not None:
            if not await self._is_done(self._turn_began, self._until):
                return 0.0
            self._turn_began = None
            self._pace.turn_ends(monotonic())
            rest = min(max(_REST_SECONDS / share, _LEAST_REST_SECONDS), _LONGEST_REST_SECONDS)
            self._rests_until = monotonic() + rest
        if monotonic() < self._rests_until:
            return 0.0
        self._pace.turn_begins(monotonic())
        return share

    def _meet(self, running: Sequence[ModelSwitch]) -> None:
        """Look whether a switch of a new order is filled. Of one order, all switches go on with its share."""
        filled = {one.campaign for one in running if one.phase is SwitchPhase.FILLING}
        if not filled <= self._campaigns:
            self._pace.begin_again()
        self._campaigns = {one.campaign for one in running}

    def begun(self, running: Sequence[ModelSwitch]) -> None:
        """Let what was begun until now be offered, with the twins that were held. It is one turn."""
        if self._until is not None:
            self._until, self._turn_began = self._clock.now(), monotonic()
            self._hold(running, self._until)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """The block works beside the searches: those that it meets do not tell how they are without it."""
        self._pace.turn_begins(monotonic())
        try:
            yield
        finally:
            self._pace.hear(self._searches.take())
            if self._turn_began is None:
                self._pace.turn_ends(monotonic())

    async def rest_after(self, seconds: float) -> None:
        """Rest after a question of the gate that took `seconds`, if searches come."""
        self._pace.hear(self._searches.take())
        if self.share is not None:
            await asyncio.sleep(_REST_PER_SECOND_OF_ASKING * seconds)

    def _hold(self, running: Sequence[ModelSwitch], until: float) -> None:
        """Hold the twins of what was submitted since `until`, where no submission waits for its twin."""
        filling = [one for one in running if one.phase is SwitchPhase.FILLING]
        self.held.hold({one.switch_id: until for one in filling if not (one.paused or one.is_trial)})

    async def _is_done(self, turn_began: float, until: float) -> bool:
        if monotonic() - turn_began > _LONGEST_TURN_SECONDS:
            return True
        return not await self._database.read(partial(model_switches.any_begun_by, instant=until))

    def _forget(self, running: Sequence[ModelSwitch]) -> None:
        """Work without turns: there is no search to give way to."""
        self._until = self._turn_began = None
        self.held.hold({})
        if any(one.phase is SwitchPhase.FILLING and not one.paused for one in running):
            self._pace.turn_begins(monotonic())
        else:
            self._pace.turn_ends(monotonic())
