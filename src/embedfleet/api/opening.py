"""The parts of the API out of an opened system: of one with workers in this process, or of one without."""

from __future__ import annotations

import asyncio

from prometheus_client.registry import Collector

from embedfleet.api.idempotency import RepeatedRequests
from embedfleet.api.key_ring import SqlKeyRing
from embedfleet.api.parts import ApiParts
from embedfleet.api.receiving import UploadFolder
from embedfleet.api.request_rate import RequestCounts
from embedfleet.api.streams import Streams
from embedfleet.api.turns import TenantTurns
from embedfleet.bootstrap import FrontSystem, OwnerSystem
from embedfleet.clock import SystemClock
from embedfleet.lifecycle.text_admission import TextAdmission
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.metrics.server import Health
from embedfleet.tracking.job_watch import JobWatch


def parts_of_owner(owner: OwnerSystem, *, insecure: bool = False) -> ApiParts:
    """Return the parts for an API in the process of an orchestrator."""
    return _parts(owner, owner.health, owner.collector, insecure=insecure)


def parts_of_front(front: FrontSystem, health: Health, *, insecure: bool = False) -> ApiParts:
    """Return the parts for an API in a process of its own, beside the orchestrators."""
    max_tenants = front.settings.monitoring.max_tenants
    collector = MergedCollector(Metrics(max_tenants=max_tenants).registry, max_tenants=max_tenants)
    return _parts(front, health, collector, insecure=insecure)


def _parts(
    system: OwnerSystem | FrontSystem, health: Health, collector: Collector, *, insecure: bool
) -> ApiParts:
    settings, database = system.settings, system.database
    clock, stopping = SystemClock(), asyncio.Event()
    return ApiParts(
        settings=settings,
        database=database,
        jobs=system.jobs,
        catalogue=system.catalogue,
        embedder=system.embedder,
        broker=system.broker,
        texts=TextAdmission(database, clock, settings.tenants),
        store=system.store,
        watch=JobWatch(database, clock, settings.tenants, stopping=stopping),
        streams=Streams(settings.http.max_streams),
        keys=SqlKeyRing(database, clock, settings.tenants),
        requests=RequestCounts(),
        repeated=RepeatedRequests(database, clock),
        uploads=UploadFolder(settings.data_dir / "uploads", max_bytes=settings.parsing.max_file_bytes),
        reading=TenantTurns(settings.parsing.processes),
        clock=clock,
        health=health,
        collector=collector,
        stopping=stopping,
        insecure=insecure,
    )
