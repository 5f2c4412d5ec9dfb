"""The election: one orchestrator at a time leads, and when it falls silent another one does soon after."""

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
    """Whether this orchestrator leads. One task alone calls `stand` and `resign`."""

    @property
    def leads(self) -> bool: ...

    async def stand(self) -> None:
        """Keep the lead, or take it if it is free. Called with every heartbeat."""
        ...

    async def resign(self) -> None:
        """Give the lead up, so that another orchestrator takes it at once."""
        ...


class SoleOrchestrator:
    """An orchestrator whose broker is in its own process: no other one can serve it, so it always leads."""

    leads = True

    async def stand(self) -> None:
        """Nothing to do: it leads already."""

    async def resign(self) -> None:
        """Nothing to do: no other orchestrator waits for the lead."""


class SqlElection:
    """An election by a counter in SQL: no two clocks are compared (see `records.fleet`).

    The leader raises the counter with every heartbeat. A candidate that sees the counter stand still for a
    lease, on its own clock, takes over. A leader that could not reach SQL for a lease counts itself as
    deposed, because another may have taken over by then.
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
        # Read before the write: the others count the lease from when they see the write, so ours must not
        # begin later than that.
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
        """Whether the lead is free, or its holder has not moved the counter for a lease."""
        found = await self._database.read(fleet.leader)
        if found != self._seen:
            self._seen, self._seen_at = found, now
        return found.holder is None or now - self._seen_at >= self._lease_seconds

    async def _take_over(self) -> bool:
        seen = self._seen
        assert seen is not None
        return await self._database.write(lambda conn: fleet.take_lead(conn, self._id, seen))
