"""The parts of the API out of an opened system: of one with workers in this process, or of one without."""

from __future__ import annotations

import asyncio

from embedfleet.api.idempotency import RepeatedRequests
from embedfleet.api.key_ring import SqlKeyRing
from embedfleet.api.parts import ApiParts
from embedfleet.api.receiving import UploadFolder
from embedfleet.api.request_rate import RequestCounts
from embedfleet.api.streams import Streams
from embedfleet.api.turns import TenantTurns
from embedfleet.bootstrap import FrontSystem, OwnerSystem
from embedfleet.clock import SystemClock
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.text_admission import TextAdmission
from embedfleet.metrics import Metrics
from embedfleet.metrics.merging import MergedCollector
from embedfleet.metrics.server import Health
from embedfleet.settings import Settings
from embedfleet.tracking.job_watch import JobWatch


def parts_of_owner(owner: OwnerSystem, *, insecure: bool = False) -> ApiParts:
    """Return the parts for an API in the process of an orchestrator."""
    clock, stopping = SystemClock(), asyncio.Event()
    return ApiParts(
        settings=owner.settings,
        database=owner.database,
        jobs=owner.jobs,
        catalogue=Catalogue(owner.settings.models),
        embedder=owner.embedder,
        broker=owner.broker,
        texts=TextAdmission(owner.database, clock, owner.settings.tenants),
        store=owner.store,
        watch=JobWatch(owner.database, clock, owner.settings.tenants, stopping=stopping),
        streams=Streams(owner.settings.http.max_streams),
        keys=SqlKeyRing(owner.database, clock, owner.settings.tenants),
        requests=RequestCounts(),
        repeated=RepeatedRequests(owner.database, clock),
        uploads=_upload_folder(owner.settings),
        reading=TenantTurns(owner.settings.parsing.processes),
        clock=clock,
        health=owner.health,
        collector=owner.collector,
        stopping=stopping,
        insecure=insecure,
    )


def parts_of_front(front: FrontSystem, health: Health, *, insecure: bool = False) -> ApiParts:
    """Return the parts for an API in a process of its own, beside the orchestrators."""
    clock, stopping = SystemClock(), asyncio.Event()
    monitoring = front.settings.monitoring
    metrics = Metrics(max_tenants=monitoring.max_tenants)
    return ApiParts(
        settings=front.settings,
        database=front.database,
        jobs=front.jobs,
        catalogue=Catalogue(front.settings.models),
        embedder=front.embedder,
        broker=front.broker,
        texts=TextAdmission(front.database, clock, front.settings.tenants),
        store=front.store,
        watch=JobWatch(front.database, clock, front.settings.tenants, stopping=stopping),
        streams=Streams(front.settings.http.max_streams),
        keys=SqlKeyRing(front.database, clock, front.settings.tenants),
        requests=RequestCounts(),
        repeated=RepeatedRequests(front.database, clock),
        uploads=_upload_folder(front.settings),
        reading=TenantTurns(front.settings.parsing.processes),
        clock=clock,
        health=health,
        collector=MergedCollector(metrics.registry, max_tenants=monitoring.max_tenants),
        stopping=stopping,
        insecure=insecure,
    )


def _upload_folder(settings: Settings) -> UploadFolder:
    return UploadFolder(settings.data_dir / "uploads", max_bytes=settings.parsing.max_file_bytes)
