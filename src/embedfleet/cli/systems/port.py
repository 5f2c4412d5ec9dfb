"""The port between a command and the system that it acts on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from embedfleet.administration.schemas import (
        AuditEntry,
        KeyInfo,
        KeyRequest,
        NewKey,
        RoutingInfo,
        RoutingPlan,
        RoutingStep,
        TenantInfo,
        UsageLine,
    )
    from embedfleet.cli.systems.workers import Workers
    from embedfleet.document_filter import DocumentFilter
    from embedfleet.experiments.schemas import (
        ExperimentInfo,
        ExperimentRequest,
        ExperimentResults,
        PlannedExperiment,
    )
    from embedfleet.explanation import JobExplanation
    from embedfleet.inference.model_list import ListedModel
    from embedfleet.ingest.intake import Estimating
    from embedfleet.lifecycle.estimates import Budget
    from embedfleet.model_switching.schemas import (
        SwitchesBegun,
        SwitchesOrdered,
        SwitchEstimate,
        SwitchInfo,
    )
    from embedfleet.model_switching.selection import Selection
    from embedfleet.queue_schemas import (
        ChunkingConfig,
        DeadLetterInfo,
        DocumentEstimate,
        DocumentInfo,
        Estimate,
        JobEvent,
        JobInfo,
        JobStatus,
        JobTotals,
        Receipt,
        Requeued,
        SearchHits,
        Stage,
        UserTier,
    )
    from embedfleet.records.cursors import Page
    from embedfleet.searching.search import SearchRequest
    from embedfleet.settings import RoutingRule
    from embedfleet.tracking.worker_pools import OrchestratorInfo, OrchestratorsSeen
    from embedfleet.traffic.orders import StickyBy
    from embedfleet.traffic.schemas import TrafficChange, TrafficStatus
    from embedfleet.traffic.shadow_schemas import ShadowInfo, ShadowRule
    from embedfleet.traffic.state import TrafficState


class Jobs(Protocol):
    """The jobs, documents and dead letters within a scope: of one tenant, or of all that the caller may see.

    The contracts are those of `tracking.scoped_jobs.ScopedJobs`.
    """

    async def status(self, job_id: str) -> JobInfo: ...
    async def find_job_id(self, start: str) -> str: ...
    async def list_jobs(
        self, *, status: JobStatus | None = None, limit: int = 100, after: str | None = None
    ) -> Page[JobInfo]: ...
    async def cancel(self, job_id: str) -> bool: ...
    async def retry(self, job_id: str) -> None: ...

    def all_documents(
        self, *, prefix: str = "", matching: DocumentFilter = ...
    ) -> AsyncIterator[DocumentInfo]: ...

    async def events(self, *, after: int = 0, limit: int = 100) -> list[JobEvent]: ...
    def follow_events(self, *, after: int = 0) -> AsyncIterator[JobEvent]: ...

    async def get_dead_letter(self, dead_letter_id: int) -> DeadLetterInfo: ...
    async def list_dead_letters(
        self,
        *,
        job_id: str | None = None,
        stage: Stage | None = None,
        limit: int = 100,
        ended: bool = False,
        after: str | None = None,
    ) -> Page[DeadLetterInfo]: ...
    async def requeue_dead_letters(
        self, ids: Sequence[int] | None = None, *, job_id: str | None = None
    ) -> Requeued: ...
    async def purge_dead_letters(
        self,
        ids: Sequence[int] | None = None,
        *,
        job_id: str | None = None,
        before: datetime | None = None,
    ) -> int: ...


class IngestJobs(Protocol):
    """What an ingest asks beside its intake. The contracts are those of `TenantJobs`."""

    def all_documents(self, *, prefix: str = "") -> AsyncIterator[DocumentInfo]: ...
    async def delete_document(self, *, media_id: str) -> str | None: ...
    async def statuses(self, job_ids: Sequence[str]) -> list[JobInfo]: ...
    async def wait_many(self, job_ids: Iterable[str]) -> dict[str, JobInfo]: ...
    async def totals(self, *, since: datetime) -> JobTotals: ...
    async def sum_of_estimates(self, estimates: Sequence[DocumentEstimate]) -> Estimate: ...


class OneTenantsJobs(Jobs, IngestJobs, Protocol):
    """The jobs and documents of one tenant. The contracts are those of `tracking.tenant_jobs.TenantJobs`."""

    async def delete_document(self, *, media_id: str) -> str | None: ...
    async def delete_documents(self, *, matching: DocumentFilter) -> dict[str, str]: ...

    async def receipt(self, receipt_id: str) -> Receipt: ...
    async def list_receipts(self, *, limit: int = 100, after: str | None = None) -> Page[Receipt]: ...


class Administration(Protocol):
    """Keys, usage and the audit log within a scope.

    The contracts are those of `administration.scoped_administration.Administration`.
    """

    async def list_keys(self, *, limit: int = 100, after: str | None = None) -> Page[KeyInfo]: ...
    async def rotate_key(self, prefix: str, *, overlap_seconds: float = 86_400.0) -> NewKey: ...
    async def revoke_key(self, prefix: str) -> KeyInfo: ...
    async def usage(
        self, *, first_day: date | None = None, last_day: date | None = None
    ) -> list[UsageLine]: ...
    async def audit_log(self, *, limit: int = 100, after: str | None = None) -> Page[AuditEntry]: ...


class TenantAdministration(Administration, Protocol):
    """The contracts are those of `administration.tenant_administration.TenantAdministration`."""

    async def tenant(self) -> TenantInfo: ...
    async def routing(self) -> RoutingInfo: ...
    async def set_rules(self, rules: Sequence[RoutingRule]) -> RoutingInfo: ...
    async def plan_routing(self, rules: Sequence[RoutingRule] | None = None) -> RoutingPlan: ...
    async def move_routed(self, *, after: str | None = None) -> RoutingStep: ...
    async def create_key(self, request: KeyRequest) -> NewKey: ...


class OperatorAdministration(Administration, Protocol):
    """The contracts are those of `administration.operator_administration.OperatorAdministration`."""

    def of(self, tenant: str) -> TenantAdministration: ...
    async def create_operator_key(self, request: KeyRequest) -> NewKey: ...
    async def list_tenants(self, *, limit: int = 100, after: str | None = None) -> Page[TenantInfo]: ...
    async def set_tenant(
        self,
        tenant: str,
        *,
        tier: UserTier | None = None,
        limits: Mapping[str, float | None] | None = None,
    ) -> TenantInfo: ...
    async def delete_tenant(self, tenant: str) -> str: ...


class Traffic(Protocol):
    """The contracts are those of `traffic.administration.TrafficAdministration`."""

    async def show(self, *, window_seconds: float = ...) -> TrafficStatus: ...
    async def set(
        self,
        *,
        percent: float | None = None,
        sticky_by: StickyBy | None = None,
        allow_tenants: Iterable[str] | None = None,
        deny_tenants: Iterable[str] | None = None,
        allow_content_types: Iterable[str] | None = None,
        deny_content_types: Iterable[str] | None = None,
        reason: str | None = None,
        expected_change_id: int | None = None,
    ) -> TrafficState: ...
    async def plan(
        self,
        steps: Sequence[float],
        *,
        hold_seconds: float,
        max_error_rate: float,
        max_p99_ratio: float,
        reason: str | None = None,
    ) -> TrafficState: ...
    async def pause(self, *, reason: str | None = None) -> TrafficState: ...
    async def resume(self, *, reason: str | None = None) -> TrafficState: ...
    async def rollback(self, *, reason: str | None = None) -> TrafficState: ...
    async def retire(
        self, *, after_seconds: float, restorable_seconds: float, reason: str | None = None
    ) -> TrafficState: ...
    async def restore(self, *, reason: str | None = None) -> TrafficState: ...
    async def history(self, *, limit: int = 100, after: str | None = None) -> Page[TrafficChange]: ...
    def follow(self, *, after: int = 0) -> AsyncIterator[TrafficChange]: ...


class Shadows(Protocol):
    """The contracts are those of `traffic.shadow_administration.ShadowAdministration`."""

    async def begin(self, *, owner: str, rule: ShadowRule, expires_seconds: float) -> ShadowInfo: ...
    async def end(self, shadow_id: str) -> ShadowInfo: ...
    async def show(self, shadow_id: str) -> ShadowInfo: ...
    async def list_shadows(self, *, limit: int = 100, after: str | None = None) -> Page[ShadowInfo]: ...


class Switches(Protocol):
    """The contracts are those of `model_switching.administration.SwitchAdministration`."""

    async def estimate(
        self, selection: Selection, *, to_model: str, from_model: str | None = None
    ) -> SwitchEstimate: ...
    async def begin(
        self,
        selection: Selection,
        *,
        to_model: str,
        from_model: str | None = None,
        percent: float = 100.0,
        most_jobs: int | None = None,
        force: bool = False,
    ) -> SwitchesBegun: ...
    async def show(self, switch_id: int) -> SwitchInfo: ...
    async def list_switches(
        self,
        *,
        tenant: str | None = None,
        campaign: str | None = None,
        ended: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[SwitchInfo]: ...
    async def pause(self, selection: Selection) -> SwitchesOrdered: ...
    async def resume(self, selection: Selection) -> SwitchesOrdered: ...
    async def throttle(self, selection: Selection, *, most_jobs: int | None) -> SwitchesOrdered: ...
    async def serve(self, selection: Selection, *, percent: float) -> SwitchesOrdered: ...
    async def rollback(self, selection: Selection) -> SwitchesOrdered: ...
    async def force(self, selection: Selection) -> SwitchesOrdered: ...
    async def recheck(self, selection: Selection) -> SwitchesOrdered: ...
    async def retire(self, selection: Selection, *, force: bool = False) -> SwitchesOrdered: ...


class Experiments(Protocol):
    """The contracts are those of `experiments.administration.ExperimentAdministration`."""

    async def plan(self, request: ExperimentRequest) -> PlannedExperiment: ...
    async def begin(self, request: ExperimentRequest) -> ExperimentInfo: ...
    async def list_experiments(
        self, *, limit: int = 100, after: str | None = None
    ) -> Page[ExperimentInfo]: ...
    async def show(self, experiment_id: str) -> ExperimentResults: ...
    async def end(self, experiment_id: str) -> ExperimentInfo: ...
    async def promote(self, experiment_id: str, arm: str | None = None) -> ExperimentInfo: ...


class System(Protocol):
    """A system, here or elsewhere. Any method may raise Transient if it cannot be reached."""

    async def jobs(self, tenant: str | None) -> Jobs:
        """Return the jobs of this tenant; None: of every tenant that the caller may see."""
        ...

    async def tenant(self, named: str | None) -> str:
        """Return the tenant that a command acts for: the named one, otherwise that of the caller."""
        ...

    async def jobs_of(self, tenant: str) -> OneTenantsJobs:
        """Return the jobs and documents of this tenant."""
        ...

    async def require_model(self, name: str | None) -> None:
        """Raise UnknownModel if the model cannot be used; None: the default one."""
        ...

    async def catalogue(self) -> list[ListedModel]:
        """Return all models of the installation, by name."""
        ...

    async def chunking(self, given: Mapping[str, Any]) -> ChunkingConfig:
        """Return how documents are cut if a command says only this. Raises InvalidRequest."""
        ...

    async def intake(self, tenant: str, *, budget: Budget | None = None) -> Estimating:
        """Return what takes files of this tenant. With a `budget`, what it takes costs no more than that."""
        ...

    def workers(self, *, purpose: str, announce: Callable[[str], None]) -> Workers:
        """Return the workers that do what the command submits.

        `purpose` says who works, to others that want the data directory; `announce` gets news in one line.
        """
        ...

    async def wait_for_cleanups(self) -> None:
        """Return when the leftovers of replaced and deleted work are removed. A server does it by itself."""
        ...

    async def searched_receipts(
        self, tenant: str, receipt_ids: Sequence[str], *, purpose: str, announce: Callable[[str], None]
    ) -> list[Receipt]:
        """Return these receipts of a tenant, in order, when each was searched for what is left.

        `purpose` says who works, to others that want the data directory; `announce` gets news in one line.
        """
        ...

    async def explain_job(self, tenant: str | None, job_id: str) -> JobExplanation:
        """Say why the document of a job is not searchable yet. Raises UnknownJob.

        With the tenant None, the job may be of any tenant that the caller may see.
        """
        ...

    async def explain_document(self, tenant: str, media_id: str) -> JobExplanation:
        """Say why the tenant's document is not searchable yet. Raises UnknownDocument."""
        ...

    async def administration(self) -> OperatorAdministration:
        """Return the door to tenants, keys and usage: of every tenant that the caller may administer."""
        ...

    async def traffic(self) -> Traffic:
        """Return the door to what decides which requests go to the fleet. For operators."""
        ...

    async def shadows(self) -> Shadows:
        """Return the door to shadow runs. For operators."""
        ...

    async def switches(self) -> Switches:
        """Return the door to switches of tenants to other models. For operators."""
        ...

    def stands_still(self) -> bool:
        """Whether no process carries out what is ordered, unless this one does. A server has its own."""
        ...

    async def experiments(self) -> Experiments:
        """Return the door to comparisons of models. For operators."""
        ...

    async def orchestrators(self) -> OrchestratorsSeen:
        """Return the orchestrators and their worker pools, as `tracking.worker_pools.WorkerPools.seen`."""
        ...

    async def scale(self, pool: str, workers: int, *, host: str | None) -> list[OrchestratorInfo]:
        """Change the size of a pool, as `tracking.worker_pools.WorkerPools.scale`."""
        ...

    async def search(self, tenant: str, request: SearchRequest) -> SearchHits:
        """Search as `search.SearchService.search` does."""
        ...
