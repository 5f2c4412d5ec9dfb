"""What the routes use. `cli.serve_api` opens it, and a test may too."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedfleet.api.idempotency import RepeatedRequests
from embedfleet.api.keys import KeyRing
from embedfleet.api.receiving import UploadFolder
from embedfleet.api.request_rate import RequestCounts
from embedfleet.api.streams import Streams
from embedfleet.api.turns import TenantTurns

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from embedfleet.clock import Clock
    from embedfleet.inference.catalogue import Catalogue
    from embedfleet.interactive.embedder import TextEmbedder
    from embedfleet.job_manager import EmbeddingJobManager
    from embedfleet.lifecycle.text_admission import TextAdmission
    from embedfleet.metrics.server import Health
    from embedfleet.queue.broker import Broker
    from embedfleet.settings import Settings
    from embedfleet.sql.database import Database
    from embedfleet.tracking.job_watch import JobWatch
    from embedfleet.vectors.port import VectorStore


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The parts of a process that serves the API. The caller opens and closes them.

    `reading` shares the processes that read uploaded files among the tenants. `broker` and `store` are None
    if another process has them to itself. `stopping` is set when the server stops: a stream then ends with an
    event that says so; `watch` has the same. `insecure`: without an API key, requests are taken from any
    address.
    """

    settings: Settings
    database: Database
    jobs: EmbeddingJobManager
    catalogue: Catalogue
    embedder: TextEmbedder
    broker: Broker | None
    texts: TextAdmission
    store: VectorStore | None
    watch: JobWatch
    streams: Streams
    keys: KeyRing
    requests: RequestCounts
    repeated: RepeatedRequests
    uploads: UploadFolder
    reading: TenantTurns
    clock: Clock
    health: Health
    collector: Collector
    stopping: asyncio.Event
    insecure: bool = False
