"""Puts the parts of an orchestrator together. `bootstrap` has chosen the adapters that they use."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping, Sequence

from loguru import logger

from embedfleet.deployment import Deployment
from embedfleet.experiments.runner import ExperimentRunner
from embedfleet.host.broker_watch import BrokerWatch
from embedfleet.host.host_pools import HostPools, initial_sizes
from embedfleet.host.host_report import HealthReport, PoolReports
from embedfleet.host.pool import WorkerPool
from embedfleet.host.registration import Peers, Registration
from embedfleet.host.scaler import Scaler
from embedfleet.host.store_watch import StoreWatch
from embedfleet.inference.catalogue import available_cores
from embedfleet.launchers.launcher import Launcher
from embedfleet.launchers.restarts import RestartPolicy
from embedfleet.leader.duties import leader_services
from embedfleet.leader.election import Election, NoCandidate, SoleOrchestrator, SqlElection
from embedfleet.leader.foundations import Foundations
from embedfleet.metrics.merging import MergedCollector
from embedfleet.metrics.server import Health
from embedfleet.model_switching.switcher import ModelSwitcher
from embedfleet.queue.broker import Depth
from embedfleet.queue_schemas import Stage
from embedfleet.searching.search import SearchService
from embedfleet.service import Service
from embedfleet.settings import Settings
from embedfleet.store_moving.mover import StoreMover
from embedfleet.vectors.port import VectorStore
from embedfleet.views.view import View
from embedfleet.worker_orchestrator import WorkerOrchestrator


def build_orchestrator(
    base: Foundations,
    *,
    deployment: Deployment,
    launcher: Launcher,
    search: SearchService,
    store: VectorStore,
    mover: StoreMover | None,
    switcher: ModelSwitcher,
    experiments: ExperimentRunner,
    views: Sequence[View],
    collector: MergedCollector,
    health: Health,
) -> WorkerOrchestrator:
    """Build the orchestrator of this host, ready to run. The caller closes the objects that it passes."""
    settings = base.settings if deployment.launches else _without_scaling(base.settings)
    orchestrator_id = _new_orchestrator_id(socket.gethostname())
    election = _election(base, deployment, orchestrator_id)
    broker_watch = BrokerWatch(broker=base.broker, metrics=base.metrics)
    # Ray's workers have the cores that their pool asks for, on nodes of other sizes than this host.
    share_cores = deployment.worker_processes and not deployment.ray
    pools = _pools(base, launcher, broker_watch.depths, share_cores=share_cores)
    peers = Peers()
    scaler = Scaler(
        pools=pools.by_stage,
        settings=settings.worker_pools,
        auto_scaling=settings.auto_scaling,
        depths=broker_watch.depths,
        shards=lambda: base.broker.shards,
        peers=peers,
        collector=collector,
        metrics=base.metrics,
    )
    registration = Registration(
        orchestrator_id,
        base,
        election=election,
        report=PoolReports(pools, scaler=scaler, search=search, settings=settings).now,
        resize=pools.resize if deployment.launches else _decline,
        peers=peers,
    )
    store_watch = StoreWatch(store=store, settings=settings.vector_store, metrics=base.metrics)
    health_report = HealthReport(
        health, pools, [broker_watch.trouble, registration.trouble, store_watch.trouble]
    )
    watches: list[Service] = [broker_watch, store_watch, scaler, health_report]
    services: list[Service] = [
        *leader_services(base, election, search, store, views, mover, switcher, experiments),
        *watches,
    ]
    return WorkerOrchestrator(
        pools=pools, registration=registration, services=services, initial_sizes=initial_sizes(settings)
    )


def build_pool_worker(
    base: Foundations,
    *,
    stage: Stage,
    launcher: Launcher,
    store: VectorStore | None,
    collector: MergedCollector,
    health: Health,
) -> WorkerOrchestrator:
    """Build the orchestrator of a process that is one worker of one pool. It is no candidate for the lead.

    `store` is None if the stage uses none. The caller closes the objects that it passes.
    """
    settings = _without_scaling(base.settings)
    broker_watch = BrokerWatch(broker=base.broker, metrics=base.metrics, stages=[stage])
    pool = WorkerPool(
        stage,
        launcher=launcher,
        settings=settings.worker_pools.of(stage.value),
        restarts=_restart_policy(settings),
        metrics=base.metrics,
    )
    drain_seconds = settings.orchestrator.drain_seconds
    pools = HostPools({stage: pool}, drain_seconds=drain_seconds, depths=broker_watch.depths)
    peers = Peers()
    scaler = Scaler(
        pools=pools.by_stage,
        settings=settings.worker_pools,
        auto_scaling=settings.auto_scaling,
        depths=broker_watch.depths,
        shards=lambda: base.broker.shards,
        peers=peers,
        collector=collector,
        metrics=base.metrics,
    )
    registration = Registration(
        _new_orchestrator_id(socket.gethostname()),
        base,
        election=NoCandidate(),
        report=PoolReports(pools, scaler=scaler, search=None, settings=settings).now,
        resize=_decline,
        peers=peers,
    )
    watches: list[Service] = [broker_watch, scaler]
    troubles = [broker_watch.trouble, registration.trouble]
    if store is not None:
        store_watch = StoreWatch(store=store, settings=settings.vector_store, metrics=base.metrics)
        watches.append(store_watch)
        troubles.append(store_watch.trouble)
    watches.append(HealthReport(health, pools, troubles))
    return WorkerOrchestrator(
        pools=pools, registration=registration, services=watches, initial_sizes={stage.value: 1}
    )


def _without_scaling(settings: Settings) -> Settings:
    """Return the settings of a host whose pools keep their size: what starts the processes scales them."""
    fixed = settings.auto_scaling.model_copy(update={"enabled": False})
    return settings.model_copy(update={"auto_scaling": fixed})


def _decline(workers: Mapping[str, int]) -> None:
    """Say that an order of pool sizes is for what started this process. A newer release gives none here."""
    logger.warning("the order {} is not followed: what starts the workers decides their number", workers)


def _new_orchestrator_id(host: str) -> str:
    """Return an id that no other run of any orchestrator has."""
    return f"{host[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _election(base: Foundations, deployment: Deployment, orchestrator_id: str) -> Election:
    if not deployment.shared_broker:
        return SoleOrchestrator()
    lease = base.settings.orchestrator.leader_lease_seconds
    return SqlElection(base.database, orchestrator_id, lease_seconds=lease)


def _pools(
    base: Foundations, launcher: Launcher, depths: Mapping[Stage, Depth], *, share_cores: bool
) -> HostPools:
    """Build a pool for each stage. No pool has a worker yet.

    With `share_cores`, the embedding workers share the host's cores as model threads, because each process
    has a model of its own. Workers inside one process share one model, which takes all cores.
    """
    settings = base.settings
    cores = available_cores() if share_cores else None
    pools = {
        stage: WorkerPool(
            stage,
            launcher=launcher,
            settings=settings.worker_pools.of(stage.value),
            restarts=_restart_policy(settings),
            metrics=base.metrics,
            cores=cores if stage is Stage.EMBEDDING else None,
        )
        for stage in Stage
    }
    return HostPools(pools, drain_seconds=settings.orchestrator.drain_seconds, depths=depths)


def _restart_policy(settings: Settings) -> RestartPolicy:
    given = settings.orchestrator
    return RestartPolicy(
        base_seconds=given.restart_backoff_seconds,
        cap_seconds=given.restart_backoff_max_seconds,
        crash_loop_after=given.crash_loop_after,
    )
