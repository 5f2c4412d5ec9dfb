"""The worker pools of every orchestrator that runs, for an operator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from embedfleet.clock import Clock, utc
from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.records import audit, fleet
from embedfleet.records.audit import Deed
from embedfleet.records.fleet import PoolReport, RunningOrchestrator
from embedfleet.settings import Settings, with_pool_sizes
from embedfleet.sql.database import Database


class OrchestratorInfo(BaseModel):
    """An orchestrator that announced itself lately, and its report on its pools."""

    model_config = ConfigDict(frozen=True)

    orchestrator_id: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime = Field(description="When it announced itself last.")
    pools: dict[str, PoolReport] = Field(description="By stage.")
    has_orders: bool = Field(description="It was told to change a pool, and did not read it yet.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json")


class OrchestratorsSeen(BaseModel):
    """The orchestrators that run, and those that fell silent within the last hour, each by host."""

    model_config = ConfigDict(frozen=True)

    orchestrators: tuple[OrchestratorInfo, ...]
    lost: tuple[OrchestratorInfo, ...] = Field(description="They ended in no good order: killed, or frozen.")

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints."""
        return self.model_dump(mode="json")


class WorkerPools:
    """The pools of all orchestrators. Any method may raise DatabaseUnavailable.

    `actor` is written into the audit log: the prefix of an API key, or `audit.LOCAL`.
    """

    def __init__(self, database: Database, clock: Clock, settings: Settings, *, actor: str) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._actor = actor

    async def seen(self) -> OrchestratorsSeen:
        """Return the orchestrators that run, and those that were lost within the last hour."""
        now = self._clock.now()
        running, lost = await self._database.read(lambda conn: fleet.running_and_lost(conn, now))
        return OrchestratorsSeen(
            orchestrators=tuple(map(_described, running)), lost=tuple(map(_described, lost))
        )

    async def scale(self, pool: str, workers: int, *, host: str | None = None) -> list[OrchestratorInfo]:
        """Order orchestrators to run this many workers of a pool, from their next heartbeat on.

        With `host`, only those of this host, or the one with this id. Returns those that were told. Raises
        InvalidRequest for an unknown pool, a number out of range, or if there is no orchestrator to tell.
        """
        try:
            with_pool_sizes(self._settings, {pool: workers})
        except ConfigError as exc:
            raise InvalidRequest(str(exc)) from None
        now = self._clock.now()

        def order(conn: Connection) -> Sequence[RunningOrchestrator]:
            found = [one for one in fleet.running(conn, now) if _takes_orders(one, pool)]
            chosen = [one for one in found if host is None or host in (one.host, one.orchestrator_id)]
            if not chosen:
                raise InvalidRequest(_why_none_was_told(found, fleet.running(conn, now)))
            for one in chosen:
                fleet.order_workers(conn, one.orchestrator_id, pool, workers)
            details = {"pool": pool, "workers": workers, "hosts": sorted({one.host for one in chosen})}
            audit.add(conn, Deed(self._actor, "pools.scale", None, details), now)
            return chosen

        return [_described(one) for one in await self._database.write(order)]


def _takes_orders(one: RunningOrchestrator, pool: str) -> bool:
    return pool in one.pools and not one.pools[pool].sized_elsewhere


def _why_none_was_told(told: Sequence[RunningOrchestrator], running: Sequence[RunningOrchestrator]) -> str:
    """Return why no orchestrator took the order: of all that run, `told` could have."""
    if running and not told:
        return (
            "what starts the workers' processes decides how many there are (setting `orchestrator.launcher` "
            "is `none`): scale it there, such as by `kubectl scale`"
        )
    seen = ", ".join(sorted({one.host for one in told})) or "none"
    return f"no running orchestrator to tell (running on: {seen})"


def _described(one: RunningOrchestrator) -> OrchestratorInfo:
    return OrchestratorInfo(
        orchestrator_id=one.orchestrator_id,
        host=one.host,
        pid=one.pid,
        started_at=utc(one.started_at),
        seen_at=utc(one.seen_at),
        pools=dict(one.pools),
        has_orders=one.has_orders,
    )
