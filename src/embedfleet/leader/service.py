"""The contract of a leader's duty, and the service that runs it.

A duty defines one step. `LeaderService` repeats the step while this orchestrator leads, at the duty's pace,
and tries it again after a failure. For a moment, two orchestrators may both believe that they lead. So every
step must be harmless if two take it at once.
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
from embedfleet.waiting import first_of, unless, wait_briefly

# The pause after a step that failed, unless the duty overrides it.
_PAUSE_AFTER_FAILURE_SECONDS = 1.0
# The longest pause of a duty that follows writes, because a write of another process may go unnoticed.
_LOOK_SECONDS = 1.0
# Steps that follow writes begin at least this far apart, so that a burst of writes is answered by one step.
_STEP_SECONDS = 0.02


class LeaderDuty(ABC):
    """One duty of the leader. A subclass defines its step."""

    name: ClassVar[str]
    works_again: ClassVar[str] = "it goes on"
    """The text in the log when a step succeeds after one that failed."""
    rests_first: ClassVar[bool] = False
    """Whether the pause of the pace comes before the first step too."""
    stops_in_mid_step: ClassVar[bool] = False
    """Whether a step that is under way is cancelled by the stop signal, and when the lead is lost. Otherwise
    the stop waits for its end."""

    @abstractmethod
    async def step(self) -> None:
        """Do the work that waits now. If it raises EmbedfleetError, the step is taken again."""

    async def last_step(self) -> None:
        """Do the work that is left when the leader stops. Unless a subclass overrides it, there is none."""
        return

    def deposed(self) -> None:
        """Do the work of an orchestrator that does not lead. The service calls it in place of a step."""
        return

    def pause_after_failure_seconds(self) -> float:
        """Return the pause after a step that failed."""
        return _PAUSE_AFTER_FAILURE_SECONDS

    async def close(self) -> None:
        """Release the resources of the duty. The service calls it once, at the end."""
        return


class Pace(Protocol):
    """Decides when the next step follows."""

    async def begin(self) -> None:
        """Note that a step begins now. The service calls it before every step."""
        ...

    async def rest(self, stop: asyncio.Event) -> None:
        """Wait after a step until the next one is due, or until `stop` is set."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Each step begins `seconds` after the end of the one before."""

    seconds: float

    async def begin(self) -> None:
        return

    async def rest(self, stop: asyncio.Event) -> None:
        await wait_briefly(stop, self.seconds)


class AfterWrites:
    """A step follows soon after every write to the database, and at least once a second.

    The first write after a quiet moment brings a step at once. Writes that come close together share a step:
    steps begin at least `apart_seconds` from each other.
    """

    def __init__(self, database: Database, *, apart_seconds: float = _STEP_SECONDS) -> None:
        self._database = database
        self._apart_seconds = apart_seconds
        self._seen = -1
        self._begun = 0.0

    async def begin(self) -> None:
        # Read this before the step: a write that comes during the step must bring another step.
        self._seen = await self._database.writes_noticed()
        self._begun = monotonic()

    async def rest(self, stop: asyncio.Event) -> None:
        write = self._database.wait_for_write(self._seen, timeout_seconds=_LOOK_SECONDS)
        await first_of(write, stop.wait())
        await wait_briefly(stop, max(0.0, self._begun + self._apart_seconds - monotonic()))


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
        """Take steps until `stop` is set. Then take the last step, if this orchestrator still leads."""
        try:
            if self._duty.rests_first:
                await self._pace.begin()
                await self._pace.rest(stop)
            while not stop.is_set():
                await self._pace.begin()
                if await self._step(stop):
                    await self._pace.rest(stop)
                else:
                    await wait_briefly(stop, self._duty.pause_after_failure_seconds())
            if self._election.leads:
                with suppress(Transient):  # the next leader does this work
                    await self._duty.last_step()
        finally:
            await self._duty.close()

    async def _step(self, stop: asyncio.Event) -> bool:
        """Take a step if this orchestrator leads. Return False if the step failed."""
        if not self._election.leads:
            self._duty.deposed()
            return True
        try:
            if self._duty.stops_in_mid_step:
                await unless(self._over(stop), self._duty.step())
            else:
                await self._duty.step()
        except EmbedfleetError as exc:
            self.trouble.note(exc)
            return False
        self.trouble.clear()
        return True

    async def _over(self, stop: asyncio.Event) -> None:
        """Return when this orchestrator stops, or does not lead any more."""
        while self._election.leads and not stop.is_set():
            await wait_briefly(stop, _LOOK_SECONDS)
