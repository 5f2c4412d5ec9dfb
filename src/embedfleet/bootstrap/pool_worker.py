"""Opens a process that something else started as one worker of a pool: a pod, a unit of systemd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from embedfleet.assembly import build_pool_worker
from embedfleet.bootstrap.adapters import entered_database, metered, open_joined_broker, open_joined_store
from embedfleet.bootstrap.systems import PoolWorkerSystem
from embedfleet.bootstrap.workers import STORING, worker_builder
from embedfleet.clock import SystemClock
from embedfleet.deployment import deployment_of
from embedfleet.joining import Purpose
from embedfleet.launchers.inline import InlineLauncher
from embedfleet.leader.foundations import Foundations
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.metrics.server import Health
from embedfleet.queue_schemas import Stage
from embedfleet.settings import Settings
from embedfleet.vectors.port import VectorStore
from embedfleet.workers.services import Services


@asynccontextmanager
async def open_pool_worker(
    settings: Settings, stage: Stage, *, metrics: Metrics, collector: MergedCollector, health: Health
) -> AsyncIterator[PoolWorkerSystem]:
    """Open what a process needs that something else started as one worker of this stage.

    It joins the system by itself, since no orchestrator on its host has done so. Models are loaded when this
    returns. Raises as `open_owner` does.
    """
    clock = SystemClock()
    deployment_of(settings)
    async with AsyncExitStack() as stack:
        database = await entered_database(stack, settings, metrics)
        broker = await open_joined_broker(settings, database, clock, {})
        stack.push_async_callback(broker.close)
        store: VectorStore | None = None
        if stage in STORING:
            store = metered(await open_joined_store(settings, database, clock, Purpose.USE), metrics)
            stack.push_async_callback(store.close)
        services = Services(broker, database, metrics, clock, settings.worker_pools)
        builder, models = await worker_builder(stack, settings, stage, services, store)
        orchestrator = build_pool_worker(
            Foundations(settings, database, broker, metrics, clock),
            stage=stage,
            launcher=InlineLauncher({stage: builder}),
            store=store,
            collector=collector,
            health=health,
        )
        yield PoolWorkerSystem(database, orchestrator, models)
