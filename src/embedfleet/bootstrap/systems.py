"""What `bootstrap` opens: the parts of each kind of process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedfleet.deployment import Deployment
    from embedfleet.inference.catalogue import Catalogue
    from embedfleet.inference.pool import ModelPool
    from embedfleet.interactive.embedder import TextEmbedder
    from embedfleet.job_manager import EmbeddingJobManager
    from embedfleet.metrics import Metrics
    from embedfleet.metrics.merging import MergedCollector
    from embedfleet.metrics.server import Health
    from embedfleet.queue.broker import Broker
    from embedfleet.records.collections import Collection
    from embedfleet.repair.rebuilding import Rebuilding
    from embedfleet.repair.true_vectors import TrueVectors
    from embedfleet.repair.verification import Verification
    from embedfleet.searching.search import SearchClient, SearchService
    from embedfleet.settings import Settings
    from embedfleet.sql.database import Database
    from embedfleet.vectors.port import VectorStore
    from embedfleet.views.mending import ViewMending
    from embedfleet.views.verification import ViewVerification
    from embedfleet.views.view import View
    from embedfleet.worker_orchestrator import WorkerOrchestrator


@dataclass(frozen=True, slots=True)
class OwnerSystem:
    """All parts of an orchestrator's process. In embedded mode that is the whole system."""

    settings: Settings
    deployment: Deployment
    database: Database
    jobs: EmbeddingJobManager
    catalogue: Catalogue
    broker: Broker
    store: VectorStore
    models: ModelPool
    embedder: TextEmbedder
    search: SearchService
    orchestrator: WorkerOrchestrator
    metrics: Metrics
    collector: MergedCollector
    health: Health


@dataclass(frozen=True, slots=True)
class PoolWorkerSystem:
    """The parts of a process that is one worker of one pool. `models` is None if its stage runs none."""

    database: Database
    orchestrator: WorkerOrchestrator
    models: ModelPool | None


@dataclass(frozen=True, slots=True)
class GuestSystem:
    """The parts of a process beside the orchestrators, which submits, watches and searches through SQL."""

    settings: Settings
    database: Database
    jobs: EmbeddingJobManager
    search: SearchClient


@dataclass(frozen=True, slots=True)
class FrontSystem:
    """The parts of a process beside the orchestrators that answers clients. It owns nothing.

    In a fleet, its `embedder` has the workers embed, and its `search` looks into the vector store, if that is
    a server. Otherwise the orchestrator searches, and without a shared `broker` this process loads models.
    """

    settings: Settings
    database: Database
    jobs: EmbeddingJobManager
    catalogue: Catalogue
    broker: Broker | None
    embedder: TextEmbedder
    search: SearchService | SearchClient
    store: VectorStore | None


@dataclass(frozen=True, slots=True)
class RepairSystem:
    """The parts that compare the vector store with SQL and mend it.

    `put_aside` is the new place of a store that could not be used; None if there was none. `tenants` are
    those within the scope.
    """

    collections: Sequence[Collection]
    put_aside: Path | None
    verification: Verification
    rebuilding: Rebuilding
    truth: TrueVectors
    tenants: Sequence[str]
    views: Sequence[View]
    view_verification: ViewVerification
    view_mending: Mapping[str, ViewMending]
