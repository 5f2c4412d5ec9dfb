"""The traffic state in memory, kept in step with SQL, so that a request costs no query."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import ClassVar, NamedTuple, Protocol

from embedfleet.clock import Clock
from embedfleet.errors import EmbedfleetError
from embedfleet.records import traffic
from embedfleet.records.traffic import Change
from embedfleet.sql.database import Database
from embedfleet.traffic.changes import state_of
from embedfleet.traffic.decision import EVERYTHING, Reach
from embedfleet.traffic.state import NOTHING_MOVED, TrafficState
from embedfleet.trouble import Trouble
from embedfleet.waiting import first_of, wait_briefly

EFFECT_SECONDS = 0.5
"""A change holds this long after it was made, in every process at once: all have read it by then.

Without this, one process may follow the new state while another follows the old one. Then each could take
away what the other one has just stored.
"""
# A change is noticed within 50 ms (`Database`), and looks are this far apart. Both together are well below
# EFFECT_SECONDS.
_APART_SECONDS = 0.1
# The longest pause between two looks, because a write may go unnoticed.
_LOOK_SECONDS = 0.4
_PAGE = 500


class Known(NamedTuple):
    """The state that holds, and what the states up to it may have sent to the fleet."""

    state: TrafficState
    reach: Reach


NOTHING_KNOWN = Known(NOTHING_MOVED, EVERYTHING)
"""Every request goes the old way, and any document may be in the fleet."""


class TrafficStates(Protocol):
    """Knows the present state."""

    def present(self) -> Known:
        """Return the state that holds now. It takes no time and never fails."""
        ...


class FixedStates:
    """A state that is set in this process: for tests, and for a system without SQL."""

    def __init__(self, state: TrafficState = NOTHING_MOVED) -> None:
        self._known = Known(state, Reach().with_state(state))

    def set(self, state: TrafficState) -> None:
        """Put a state in the place of the present one."""
        self._known = Known(state, self._known.reach.with_state(state))

    def present(self) -> Known:
        return self._known


class WatchedStates:
    """The newest state in SQL. A `Service`, and `TrafficStates`.

    A change holds `EFFECT_SECONDS` after it was made. While SQL cannot be reached, the last known state
    holds. Until a state is known, every request goes the old way.
    """

    name: ClassVar = "traffic state"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known = NOTHING_KNOWN
        self._last_read = 0
        self._is_known = False
        # Changes with the instant from which each holds.
        self._coming: deque[tuple[float, Change]] = deque()
        self._trouble = Trouble(over="the traffic state is read again")

    def present(self) -> Known:
        if self._coming:
            self._take_effect(self._clock.now())
        return self._known

    def _take_effect(self, now: float) -> None:
        while self._coming and self._coming[0][0] <= now:
            state = state_of(self._coming.popleft()[1])
            self._known = Known(state, self._known.reach.with_state(state))

    async def refresh(self) -> None:
        """Read the changes since the last look. Raises what `Database.read` raises."""
        found = await self._read()
        now = self._clock.now()
        if not self._is_known:
            self._known = Known(NOTHING_MOVED, Reach())
            self._is_known = True
        # The clock of the writer may be ahead of this one. A change does not wait for that.
        self._coming.extend((min(change.at, now) + EFFECT_SECONDS, change) for change in found)

    async def try_refresh(self) -> None:
        """Read the changes since the last look, unless SQL cannot be reached; the log says so once."""
        try:
            await self.refresh()
        except EmbedfleetError as exc:
            self._trouble.note(exc)
        else:
            self._trouble.clear()

    async def _read(self) -> list[Change]:
        found: list[Change] = []
        last = self._last_read
        while True:
            page = await self._database.read(partial(traffic.changes_after, change_id=last, limit=_PAGE))
            found.extend(page)
            if len(page) < _PAGE:
                break
            last = page[-1].change_id
        if found:
            self._last_read = found[-1].change_id
        return found

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            seen = await self._database.writes_noticed()
            await self.try_refresh()
            await wait_briefly(stop, _APART_SECONDS)
            write = self._database.wait_for_write(seen, timeout_seconds=_LOOK_SECONDS - _APART_SECONDS)
            await first_of(write, stop.wait())
