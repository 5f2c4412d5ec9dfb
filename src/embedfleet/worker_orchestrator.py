"""The worker orchestrator of a host: starts the pools, keeps the broker filled, stops everything in order.

Any number of hosts may run one against the same broker and database. One of them, elected, offers work from
SQL, ends expired leases and answers searches; every one has pools of its own.

Shutdown order (`run`): the stop signal first reaches the workers, which finish what they claimed, or hand it
back when the drain takes too long; only when all of them are done do the loops that serve them end, and last
the lead and the registration are given up. What is still queued then is unfinished in SQL and in the broker,
and is taken up by other hosts or at the next start.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from loguru import logger

from embedfleet.clock import Clock
from embedfleet.errors import EmbedfleetError, Transient
from embedfleet.host.pool import PoolState, WorkerPool
from embedfleet.host.registration import Peers, Registration
from embedfleet.host.scaler import Scaler
from embedfleet.launchers.launcher import Launcher
from embedfleet.launchers.restarts import RestartPolicy
from embedfleet.leader.broker_upkeep import Housekeeping
from embedfleet.leader.cache_trimming import CacheTrimming
from embedfleet.leader.election import Election
from embedfleet.leader.event_delivery import EventDelivery
from embedfleet.leader.event_publisher import EventPublisher
from embedfleet.leader.outlook import Outlook
from embedfleet.leader.reconciler import Reconciler
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.metrics.server import Health
from embedfleet.queue.broker import Broker
from embedfleet.queue_schemas import Stage
from embedfleet.records.fleet import PoolReport
from embedfleet.search import SearchService
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.waiting import first_of, wait_briefly

_HEALTH_SECONDS = 1.0
# Steps that follow writes are at least this far apart: a burst of writes is looked at once, not each.
_STEP_SECONDS = 0.02


class WorkerOrchestrator:
    """Runs the pools of this host. What it is given is the caller's to open and close."""

    def __init__(
        self,
        *,
        orchestrator_id: str,
        settings: Settings,
        database: Database,
        broker: Broker,
        launcher: Launcher,
        election: Election,
        search: SearchService,
        metrics: Metrics,
        collector: MergedCollector,
        health: Health,
        clock: Clock,
        cores: int | None,
        delivery: EventDelivery | None = None,
    ) -> None:
        """`cores`: what embedding workers share out as model threads; None: they share one model.
        `delivery`: None if events are delivered nowhere."""
        self._settings = settings
        self._database = database
        self._election = election
        self._outlook = Outlook(database)
        self._search = search
        self._health = health
        self._clock = clock
        self._events = EventPublisher(
            database=database, metrics=metrics, clock=clock, settings=settings.events
        )
        self._delivery = delivery
        self._reconciler = Reconciler(
            database=database,
            broker=broker,
            clock=clock,
            tenants=settings.tenants,
            metrics=metrics,
            reconcile_seconds=settings.orchestrator.reconcile_seconds,
        )
        self._pools = _pools(settings, launcher, metrics, cores)
        peers = Peers()
        self._housekeeping = Housekeeping(broker=broker, election=election, metrics=metrics)
        self._cache_trimming = CacheTrimming(
            database=database, election=election, settings=settings.embedding_cache
        )
        self._scaler = Scaler(
            pools=self._pools,
            settings=settings.worker_pools,
            auto_scaling=settings.auto_scaling,
            depths=self._housekeeping.depths,
            peers=peers,
            collector=collector,
            metrics=metrics,
        )
        self._registration = Registration(
            orchestrator_id,
            database=database,
            election=election,
            metrics=metrics,
            clock=clock,
            heartbeat_seconds=settings.orchestrator.heartbeat_seconds,
            report=self._report,
            obey=self.resize,
            peers=peers,
        )

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why work is being put off at the moment (disk full, store away), if it is."""
        return next((state.trouble for state in self.states() if state.trouble), None)

    def states(self) -> list[PoolState]:
        """Every pool as it is now."""
        return [pool.state() for pool in self._pools.values()]

    def resize(self, workers: Mapping[str, int]) -> None:
        """Have so many workers of these stages from now on; those too many drain."""
        for stage, number in workers.items():
            pool = self._pools[Stage(stage)]
            if number != pool.target:
                logger.bind(stage=stage).info("resized: {} -> {} workers", pool.target, number)
                pool.resize(number)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain; cancelled, hand back what is in hand and end at once."""
        serving = asyncio.Event()
        await self._registration.beat()
        await self._search.forget_abandoned(self._clock.now())
        self.resize(initial_sizes(self._settings))
        async with asyncio.TaskGroup() as services:
            for name, loop in self._loops().items():
                services.create_task(loop(serving), name=name)
            try:
                await self._run_pools(stop)
            finally:
                serving.set()

    def _loops(self) -> Mapping[str, Callable[[asyncio.Event], Coroutine[Any, Any, None]]]:
        return {
            "registration": self._registration.run,
            "broker's memory": lambda done: self._repeat(done, self._remind, after_writes=False),
            "reconciler": lambda done: self._repeat(done, self._offer),
            "searches": lambda done: self._repeat(done, self._answer),
            "events": self._number_events,
            "housekeeping": self._housekeeping.run,
            "scaler": self._scaler.run,
            "cache trimming": self._cache_trimming.run,
            "health": self._tell_health,
            **({} if self._delivery is None else {"webhook": self._delivery.run}),
        }

    async def _run_pools(self, stop: asyncio.Event) -> None:
        drained = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            limit = tasks.create_task(self._limit_drain(stop, drained), name="drain limit")
            async with asyncio.TaskGroup() as pools:
                for stage, pool in self._pools.items():
                    pools.create_task(pool.run(stop), name=f"{stage.value} pool")
            drained.set()
            await limit

    async def _limit_drain(self, stop: asyncio.Event, drained: asyncio.Event) -> None:
        """A batch that takes longer than a stop may wait is handed back."""
        await first_of(stop.wait(), drained.wait())
        seconds = self._settings.orchestrator.drain_seconds
        await wait_briefly(drained, seconds)
        if not drained.is_set():
            logger.warning("not drained in {} s: what is in hand is handed back", seconds)
            for pool in self._pools.values():
                pool.abort()

    async def _remind(self) -> None:
        if self._election.leads:
            await self._reconciler.notice_lost_broker()
            await self._reconciler.find_lost()

    async def _offer(self) -> None:
        if not self._election.leads:
            return
        waiting = await self._outlook.now()
        if waiting.jobs:
            while await self._reconciler.offer_jobs():
                pass
        if waiting.cleanups:
            await self._reconciler.offer_cleanups()

    async def _answer(self) -> None:
        if self._election.leads and (await self._outlook.now()).searches:
            await self._search.answer_waiting()

    async def _number_events(self, done: asyncio.Event) -> None:
        await self._repeat(done, self._number)
        if self._election.leads:
            with suppress(Transient):  # what ended last; else the next leader does it
                await self._events.number()

    async def _number(self) -> None:
        if self._election.leads:
            if (await self._outlook.now()).events:
                await self._events.number()
            await self._events.forget_old()

    async def _repeat(
        self, done: asyncio.Event, step: Callable[[], Awaitable[None]], *, after_writes: bool = True
    ) -> None:
        """Take the step now, every second and, if so asked, soon after every write to the database, until
        `done`. The first write after a quiet moment is answered at once; those of a busy one together."""
        while not done.is_set():
            seen = await self._database.version()
            started = monotonic()
            try:
                await step()
            except EmbedfleetError as exc:
                logger.warning("will try again: {}", exc)
                await wait_briefly(done, 1.0)
            if after_writes:
                await first_of(self._database.wait_for_write(seen, timeout_seconds=1.0), done.wait())
                await wait_briefly(done, max(0.0, started + _STEP_SECONDS - monotonic()))
            else:
                await wait_briefly(done, 1.0)

    async def _tell_health(self, done: asyncio.Event) -> None:
        while not done.is_set():
            self._health.beat(list(self._obstacles()))
            await wait_briefly(done, _HEALTH_SECONDS)
        self._health.beat(["stopping"])

    def _obstacles(self) -> Iterable[str]:
        for service in (self._housekeeping, self._registration):
            if service.trouble is not None:
                yield service.trouble
        for state in self.states():
            if state.crash_loop is not None:
                yield f"{state.stage.value} workers crash again and again: {state.crash_loop}"
            elif state.trouble is not None:
                yield f"{state.stage.value} workers are waiting: {state.trouble}"
            elif state.target and not state.ready:
                yield f"no {state.stage.value} worker has started yet"

    def _report(self) -> Mapping[str, PoolReport]:
        return {state.stage.value: self._pool_report(state) for state in self.states()}

    def _pool_report(self, state: PoolState) -> PoolReport:
        rate = self._scaler.rate(state.stage)
        return PoolReport(
            workers=state.running,
            target=state.target,
            most=self._most(state),
            draining=state.draining,
            rate=None if rate is None else float(f"{rate:.2g}"),  # coarse: not every beat a new row
            trouble=state.crash_loop or (None if state.trouble is None else str(state.trouble)),
            models=self._models(state),
        )

    def _models(self, state: PoolState) -> tuple[str, ...]:
        """Those of the workers; a leader beside worker processes has its own, for searches."""
        own = self._search.loaded_models if state.stage is Stage.EMBEDDING else []
        return tuple(sorted({*state.models, *own}))

    def _most(self, state: PoolState) -> int:
        if self._settings.auto_scaling.enabled:
            return self._settings.worker_pools.of(state.stage.value).max_workers
        return state.target


def new_orchestrator_id(host: str) -> str:
    """Unique for this life of this process."""
    return f"{host[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def initial_sizes(settings: Settings) -> dict[str, int]:
    """How many workers of each stage to start with; with auto-scaling on, within its limits."""
    return {stage.value: _initial_size(settings, stage) for stage in Stage}


def _initial_size(settings: Settings, stage: Stage) -> int:
    pool = settings.worker_pools.of(stage.value)
    if not settings.auto_scaling.enabled:
        return pool.workers
    return min(max(pool.workers, pool.min_workers), pool.max_workers)


def _pools(
    settings: Settings, launcher: Launcher, metrics: Metrics, cores: int | None
) -> dict[Stage, WorkerPool]:
    """One of each stage, none with a worker yet."""
    return {
        stage: WorkerPool(
            stage,
            launcher=launcher,
            settings=settings.worker_pools.of(stage.value),
            restarts=_restart_policy(settings),
            metrics=metrics,
            cores=cores if stage is Stage.EMBEDDING else None,
        )
        for stage in Stage
    }


def _restart_policy(settings: Settings) -> RestartPolicy:
    given = settings.orchestrator
    return RestartPolicy(
        base_seconds=given.restart_backoff_seconds,
        cap_seconds=given.restart_backoff_max_seconds,
        crash_loop_after=given.crash_loop_after,
    )
