"""Which of several orchestrators reconciles and reaps: one at a time, another soon after it falls silent."""

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
    """Whether this orchestrator leads. Called by one task."""

    @property
    def leads(self) -> bool: ...

    async def stand(self) -> None:
        """Keep the lead, or take it if nobody has it. With every heartbeat."""
        ...

    async def resign(self) -> None:
        """Let another lead at once."""
        ...


class SoleOrchestrator:
    """Nobody else can serve a broker that is in this process."""

    leads = True

    async def stand(self) -> None:
        """There is nothing to keep."""

    async def resign(self) -> None:
        """Nobody waits."""


class SqlElection:
    """By a counter in SQL, without a clock in common (see `records.fleet`).

    A leader that cannot reach SQL for a lease counts itself as deposed; by then another may have taken over.
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
        started = self._now()  # before the write: a lease must not begin later than others can see it
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
        """Nobody leads, or the leader has not moved for a lease."""
        found = await self._database.read(fleet.leader)
        if found != self._seen:
            self._seen, self._seen_at = found, now
        return found.holder is None or now - self._seen_at >= self._lease_seconds

    async def _take_over(self) -> bool:
        seen = self._seen
        assert seen is not None
        return await self._database.write(lambda conn: fleet.take_lead(conn, self._id, seen))
