"""The heartbeat of an orchestrator, by which it shows in SQL that it runs, and sees the others."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import ClassVar

from loguru import logger
from sqlalchemy import Connection

from embedfleet.errors import StorageFull, Transient
from embedfleet.leader.election import Election
from embedfleet.leader.foundations import Foundations
from embedfleet.metrics.processor import ProcessorTime
from embedfleet.queue_schemas import Stage
from embedfleet.records import fleet
from embedfleet.records.fleet import PoolReport, RunningOrchestrator
from embedfleet.trouble import Trouble
from embedfleet.waiting import repeat, wait_briefly

# An orchestrator writes at least this often, even if nothing changed, so that it does not count as dead.
_REFRESH_SECONDS = 5.0
# How long the row of a dead orchestrator stays: a day.
_FORGET_SECONDS = 86_400.0


@dataclass(slots=True)
class Peers:
    """The live orchestrators at the last heartbeat, including this one."""

    running: list[RunningOrchestrator] = field(default_factory=list)

    def hosts(self, stage: Stage) -> int:
        """Return how many hosts serve the stage, or would serve it if it had work. It is at least 1."""
        return max(1, sum(1 for pool in self._pools(stage) if pool.most))

    def workers(self, stage: Stage) -> int:
        return sum(pool.workers for pool in self._pools(stage))

    def rate(self, stage: Stage) -> float | None:
        """Return the mean rate of one worker in tokens a second; None if no host has measured it."""
        rates = [pool.rate for pool in self._pools(stage) if pool.rate]
        return sum(rates) / len(rates) if rates else None

    def _pools(self, stage: Stage) -> list[PoolReport]:
        return [peer.pools[stage.value] for peer in self.running if stage.value in peer.pools]


class Registration:
    """The heartbeat of a host: it stands for election, reports, reads its orders and sees the others.

    A `Service`.
    """

    name: ClassVar = "registration"

    def __init__(
        self,
        orchestrator_id: str,
        base: Foundations,
        *,
        election: Election,
        report: Callable[[], Mapping[str, PoolReport]],
        resize: Callable[[Mapping[str, int]], None],
        peers: Peers,
    ) -> None:
        """`report` returns the pools by stage. `resize` is called with the sizes that an operator ordered."""
        self._id = orchestrator_id
        self._database = base.database
        self._election = election
        self._metrics = base.metrics
        self._metrics.orchestrator_info.labels(orchestrator_id, socket.gethostname()).set(1)
        self._processor = ProcessorTime(base.metrics, "orchestrator")
        self._clock = base.clock
        self._heartbeat_seconds = base.settings.orchestrator.heartbeat_seconds
        self._report = report
        self._resize = resize
        self._peers = peers
        self._announced: Mapping[str, PoolReport] | None = None
        self._announced_at = 0.0
        # The lost orchestrators that were logged, by id.
        self._lost: set[str] = set()
        self.trouble = Trouble(over="the database answers the heartbeat again")

    async def run(self, stop: asyncio.Event) -> None:
        """Beat at an interval until `stop` is set. Then give up the lead and the registration.

        The caller must call `beat` once before, so that the first heartbeat comes before anything else runs.
        """
        await wait_briefly(stop, self._heartbeat_seconds)
        await repeat(stop, self._beat_or_wait, seconds=self._heartbeat_seconds)
        await self._withdraw()

    async def _beat_or_wait(self) -> None:
        try:
            await self.beat()
        except (Transient, StorageFull) as exc:
            self._metrics.database_up.set(0)
            self.trouble.note(exc)
        else:
            self.trouble.clear()

    async def beat(self) -> None:
        """Do one heartbeat. After the first one, it is known whether this orchestrator leads.

        Raises Transient and StorageFull.
        """
        self._processor.count()
        await self._election.stand()
        self._metrics.leader.set(self._election.leads)
        pools = self._report()
        if pools != self._announced or monotonic() - self._announced_at >= _REFRESH_SECONDS:
            await self._database.write(lambda conn: self._announce(conn, pools))
            self._announced, self._announced_at = pools, monotonic()
        await self._look_at_peers()
        if any(peer.orchestrator_id == self._id and peer.has_orders for peer in self._peers.running):
            self._resize(await self._database.write(lambda conn: fleet.take_orders(conn, self._id)))
        self._metrics.database_up.set(1)

    async def _look_at_peers(self) -> None:
        now = self._clock.now()
        running, lost = await self._database.read(lambda conn: fleet.running_and_lost(conn, now))
        self._peers.running = running
        if self._election.leads:  # one voice for all hosts
            for peer in (peer for peer in lost if peer.orchestrator_id not in self._lost):
                logger.warning(
                    "the orchestrator on {} (pid {}) is lost: silent for {:.0f} s, its tasks go to others",
                    peer.host,
                    peer.pid,
                    now - peer.seen_at,
                )
            self._lost = {peer.orchestrator_id for peer in lost}

    def _announce(self, conn: Connection, pools: Mapping[str, PoolReport]) -> None:
        now = self._clock.now()
        fleet.announce(conn, self._id, host=socket.gethostname(), pid=os.getpid(), now=now, pools=pools)
        if self._election.leads:
            fleet.forget_silent(conn, seen_before=now - _FORGET_SECONDS)

    async def _withdraw(self) -> None:
        await self._election.resign()
        try:
            await self._database.write(lambda conn: fleet.withdraw(conn, self._id))
        except (Transient, StorageFull) as exc:
            logger.warning("the end of this orchestrator is not written down: {}", exc)
