"""The election. One orchestrator at a time leads, and if it falls silent, another one takes over soon."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from loguru import logger

from embedfleet.errors import Transient
from embedfleet.records import fleet
from embedfleet.records.fleet import Leadership
from embedfleet.sql.database import Database


class Election(Protocol):
    """Decides whether this orchestrator leads. Only one task may call `stand` and `resign`."""

    @property
    def leads(self) -> bool:
        """Whether this orchestrator leads now."""
        ...

    async def stand(self) -> None:
        """Keep the lead, or take it if it is free. Call this with every heartbeat."""
        ...

    async def resign(self) -> None:
        """Give up the lead, so that another orchestrator can take it at once."""
        ...


class SoleOrchestrator:
    """The election of an orchestrator whose broker is in its own process.

    No other orchestrator can serve that broker, so this one always leads.
    """

    leads = True

    async def stand(self) -> None:
        """Do nothing, because it leads already."""

    async def resign(self) -> None:
        """Do nothing, because no other orchestrator waits for the lead."""


class NoCandidate:
    """The election of a process that works for the fleet and never leads it.

    A fleet whose workers all end when there is no work still needs a leader, so the lead is not theirs.
    """

    leads = False

    async def stand(self) -> None:
        """Do nothing, because it is no candidate."""

    async def resign(self) -> None:
        """Do nothing, because it never leads."""


class SqlElection:
    """An election by a counter in SQL. It never compares two clocks (see `records.fleet`).

    The leader increments the counter with every heartbeat. Another orchestrator takes over if, by its own
    clock, the counter has not changed for the length of a lease. A leader that could not reach SQL for that
    long no longer leads, because another may have taken over by then.
    """

    def __init__(
        self,
        database: Database,
        orchestrator_id: str,
        *,
        lease_seconds: float,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._id = orchestrator_id
        self._lease_seconds = lease_seconds
        self._now = now
        self._kept_at: float | None = None
        self._seen: Leadership | None = None
        self._seen_at = 0.0

    @property
    def leads(self) -> bool:
        return self._kept_at is not None and self._now() - self._kept_at < self._lease_seconds

    async def stand(self) -> None:
        # Read the clock before the write. The others count the lease from the moment when they see the write,
        # and the lease of this orchestrator must not begin, and so end, later than that.
        started = self._now()
        if self._kept_at is not None:
            if await self._database.write(lambda conn: fleet.keep_lead(conn, self._id)):
                self._kept_at = started
                return
            logger.warning("another orchestrator leads now")
            self._kept_at = None
        if await self._may_take_over(started) and await self._take_over():
            self._kept_at = started
            logger.info("this orchestrator leads: it reconciles and reaps")

    async def resign(self) -> None:
        if self._kept_at is None:
            return
        self._kept_at = None
        try:
            await self._database.write(lambda conn: fleet.resign(conn, self._id))
        except Transient as exc:
            logger.warning("the lead ends with its lease instead of now: {}", exc)

    async def _may_take_over(self, now: float) -> bool:
        """Whether the lead is free, or its holder has not changed the counter for the length of a lease."""
        found = await self._database.read(fleet.leader)
        if found != self._seen:
            self._seen, self._seen_at = found, now
        return found.holder is None or now - self._seen_at >= self._lease_seconds

    async def _take_over(self) -> bool:
        seen = self._seen
        assert seen is not None
        return await self._database.write(lambda conn: fleet.take_lead(conn, self._id, seen))
