"""The loop of a duty that only the leader does.

A duty says what one step is; `LeaderService` takes the steps: only while this orchestrator leads, at the
duty's pace, and again after a failure. Two orchestrators may both believe that they lead for a moment. So
every step must be harmless when two take it at once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import ClassVar, Protocol

from embedfleet.errors import EmbedfleetError, Transient
from embedfleet.leader.election import Election
from embedfleet.sql.database import Database
from embedfleet.trouble import Trouble
from embedfleet.waiting import first_of, unless_stopped, wait_briefly

# How long a step that failed waits for its next try, unless the duty says otherwise.
_PAUSE_AFTER_FAILURE_SECONDS = 1.0
# A duty that follows writes looks at least this often: a write of another process may go unnoticed.
_LOOK_SECONDS = 1.0
# Steps that follow writes begin at least this far apart, so that a burst of writes is answered by one step.
_STEP_SECONDS = 0.02


class LeaderDuty(ABC):
    """One thing that only the leader does."""

    name: ClassVar[str]
    works_again: ClassVar[str] = "it goes on"
    """What the log says when a step succeeds after one that failed."""
    rests_first: ClassVar[bool] = False
    """Whether the first step waits as long after the start as later ones after the step before."""
    stops_in_mid_step: ClassVar[bool] = False
    """Whether the stop signal cancels a step that is under way, instead of waiting for its end."""

    @abstractmethod
    async def step(self) -> None:
        """Do what waits now. Raises EmbedfleetError if it could not: the step is then taken again."""

    async def last_step(self) -> None:
        """What is still to be done when the leader stops. Nothing, unless overridden."""
        return

    def deposed(self) -> None:
        """Called instead of a step while this orchestrator does not lead."""
        return

    def pause_after_failure_seconds(self) -> float:
        """How long the next step waits after one that failed."""
        return _PAUSE_AFTER_FAILURE_SECONDS

    async def close(self) -> None:
        """Release what the duty holds. Called once, at the end."""
        return


class Pace(Protocol):
    """When the next step follows."""

    async def begin(self) -> float:
        """Called before a step; what it returns is handed to `rest`."""
        ...

    async def rest(self, stop: asyncio.Event, begun: float) -> None:
        """Wait after a step until the next one is due, or until `stop` is set."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Each step begins `seconds` after the end of the one before."""

    seconds: float

    async def begin(self) -> float:
        return 0.0

    async def rest(self, stop: asyncio.Event, begun: float) -> None:
        await wait_briefly(stop, self.seconds)


class AfterWrites:
    """A step soon after every write to the database, and at least once a second.

    The first write after a quiet moment is answered at once, those of a busy moment together.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = -1

    async def begin(self) -> float:
        # Before the step: a write that comes while the step looks must bring another step.
        self._seen = await self._database.writes_noticed()
        return monotonic()

    async def rest(self, stop: asyncio.Event, begun: float) -> None:
        write = self._database.wait_for_write(self._seen, timeout_seconds=_LOOK_SECONDS)
        await first_of(write, stop.wait())
        await wait_briefly(stop, max(0.0, begun + _STEP_SECONDS - monotonic()))


class LeaderService:
    """Runs one duty while this orchestrator leads. A `Service`."""

    def __init__(self, duty: LeaderDuty, *, election: Election, pace: Pace) -> None:
        self._duty = duty
        self._election = election
        self._pace = pace
        self.trouble = Trouble(over=duty.works_again)

    @property
    def name(self) -> str:
        return self._duty.name

    async def run(self, stop: asyncio.Event) -> None:
        """Take steps until `stop` is set; then the last one, if this orchestrator still leads."""
        try:
            if self._duty.rests_first:
                await self._pace.rest(stop, await self._pace.begin())
            while not stop.is_set():
                begun = await self._pace.begin()
                if await self._step(stop):
                    await self._pace.rest(stop, begun)
                else:
                    await wait_briefly(stop, self._duty.pause_after_failure_seconds())
            if self._election.leads:
                with suppress(Transient):  # the next leader does it
                    await self._duty.last_step()
        finally:
            await self._duty.close()

    async def _step(self, stop: asyncio.Event) -> bool:
        """Take a step, if this orchestrator leads. False if it failed."""
        if not self._election.leads:
            self._duty.deposed()
            return True
        try:
            if self._duty.stops_in_mid_step:
                await unless_stopped(stop, self._duty.step())
            else:
                await self._duty.step()
        except EmbedfleetError as exc:
            self.trouble.note(exc)
            return False
        self.trouble.clear()
        return True
