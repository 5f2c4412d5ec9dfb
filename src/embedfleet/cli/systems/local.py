"""The system of a data directory, or of the databases that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from embedfleet.bootstrap import GuestSystem, open_guest

if TYPE_CHECKING:
    from embedfleet.administration.operator_administration import OperatorAdministration
    from embedfleet.cli.workers_host import WorkersHost
    from embedfleet.experiments.administration import ExperimentAdministration
    from embedfleet.explanation import JobExplanation
    from embedfleet.inference.model_list import ListedModel
    from embedfleet.ingest import LocalIntake
    from embedfleet.lifecycle.estimates import Budget
    from embedfleet.model_switching.administration import SwitchAdministration
    from embedfleet.queue_schemas import ChunkingConfig, Receipt, SearchHits
    from embedfleet.searching.search import SearchRequest
    from embedfleet.settings import Settings
    from embedfleet.tracking.explaining import Explainer
    from embedfleet.tracking.operator_jobs import OperatorJobs
    from embedfleet.tracking.tenant_jobs import TenantJobs
    from embedfleet.tracking.worker_pools import OrchestratorInfo, OrchestratorsSeen, WorkerPools
    from embedfleet.traffic.administration import TrafficAdministration
    from embedfleet.traffic.shadow_administration import ShadowAdministration


class LocalSystem:
    """A system that this process reaches itself. Its database is opened at the first use."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        """What is opened is closed with the stack."""
        self._settings = settings
        self._stack = stack
        self._opened: GuestSystem | None = None

    async def jobs(self, tenant: str | None) -> TenantJobs | OperatorJobs:
        jobs = (await self._guest()).jobs
        return jobs.of_all_tenants() if tenant is None else jobs.of(tenant)

    async def tenant(self, named: str | None) -> str:
        return named or self._settings.tenants.default_tenant

    async def jobs_of(self, tenant: str) -> TenantJobs:
        return (await self._guest()).jobs.of(tenant)

    async def require_model(self, name: str | None) -> None:
        from embedfleet.inference.catalogue import Catalogue

        Catalogue(self._settings.models).info(name or self._settings.models.default)

    async def catalogue(self) -> list[ListedModel]:
        from embedfleet.inference.catalogue import Catalogue
        from embedfleet.inference.model_list import list_models

        models = self._settings.models
        return list_models(Catalogue(models), models, await _loaded_models(self._settings))

    async def chunking(self, given: Mapping[str, Any]) -> ChunkingConfig:
        return self._settings.chunking.changed(given)

    async def intake(self, tenant: str, *, budget: Budget | None = None) -> LocalIntake:
        from embedfleet.ingest import LocalIntake
        from embedfleet.parsing.sandbox import ParserSandbox

        # It starts no process before the first file.
        parser = await self._stack.enter_async_context(ParserSandbox(self._settings.parsing))
        return LocalIntake((await self._guest()).jobs, parser, tenant, budget=budget)

    def workers(self, *, purpose: str, announce: Callable[[str], None]) -> WorkersHost:
        from embedfleet.cli.workers_host import WorkersHost

        return WorkersHost(self._settings, purpose=purpose, announce=announce)

    async def wait_for_cleanups(self) -> None:
        await (await self._guest()).jobs.of_all_tenants().wait_for_cleanups()

    async def searched_receipts(
        self, tenant: str, receipt_ids: Sequence[str], *, purpose: str, announce: Callable[[str], None]
    ) -> list[Receipt]:
        from embedfleet.cli.systems.workers import work_until

        found: list[Receipt] = []
        jobs = await self.jobs_of(tenant)

        async def searched() -> None:
            for receipt_id in receipt_ids:
                found.append(await jobs.searched_receipt(receipt_id))

        if receipt_ids:
            await work_until(self.workers(purpose=purpose, announce=announce), searched)
        return found

    async def explain_job(self, tenant: str | None, job_id: str) -> JobExplanation:
        from embedfleet.cli.options import scope_of

        return await (await self._explainer()).of_job(scope_of(tenant), job_id)

    async def explain_document(self, tenant: str, media_id: str) -> JobExplanation:
        return await (await self._explainer()).of_document(tenant, media_id)

    async def _explainer(self) -> Explainer:
        """Only queues in Redis can be asked from here, and not while it is away."""
        from embedfleet.bootstrap import open_broker
        from embedfleet.clock import SystemClock
        from embedfleet.errors import BrokerUnavailable
        from embedfleet.tracking.explaining import Explainer

        broker = None
        if self._settings.redis.url is not None:
            with suppress(BrokerUnavailable):
                broker = await open_broker(self._settings)
                self._stack.push_async_callback(broker.close)
        guest = await self._guest()
        return Explainer(guest.database, SystemClock(), self._settings, broker)

    async def administration(self) -> OperatorAdministration:
        from embedfleet.administration.operator_administration import OperatorAdministration
        from embedfleet.clock import SystemClock
        from embedfleet.records.audit import LOCAL

        guest = await self._guest()
        return OperatorAdministration(guest.database, SystemClock(), guest.settings, actor=LOCAL)

    async def traffic(self) -> TrafficAdministration:
        from embedfleet.clock import SystemClock
        from embedfleet.records.audit import LOCAL
        from embedfleet.traffic.administration import TrafficAdministration

        return TrafficAdministration((await self._guest()).database, SystemClock(), actor=LOCAL)

    async def shadows(self) -> ShadowAdministration:
        from embedfleet.clock import SystemClock
        from embedfleet.records.audit import LOCAL
        from embedfleet.traffic.shadow_administration import ShadowAdministration

        return ShadowAdministration((await self._guest()).database, SystemClock(), actor=LOCAL)

    async def switches(self) -> SwitchAdministration:
        from embedfleet.clock import SystemClock
        from embedfleet.inference.catalogue import Catalogue
        from embedfleet.model_switching.administration import SwitchAdministration
        from embedfleet.records.audit import LOCAL

        guest = await self._guest()
        catalogue = Catalogue(guest.settings.models)
        return SwitchAdministration(guest.database, SystemClock(), guest.settings, catalogue, actor=LOCAL)

    async def experiments(self) -> ExperimentAdministration:
        from embedfleet.clock import SystemClock
        from embedfleet.experiments.administration import ExperimentAdministration
        from embedfleet.inference.catalogue import Catalogue
        from embedfleet.records.audit import LOCAL

        guest = await self._guest()
        catalogue = Catalogue(guest.settings.models)
        return ExperimentAdministration(guest.database, SystemClock(), catalogue, guest.settings, actor=LOCAL)

    def stands_still(self) -> bool:
        from embedfleet.data_directory import owner_of
        from embedfleet.deployment import deployment_of

        embedded = deployment_of(self._settings).owns_data_directory
        return embedded and owner_of(self._settings.data_dir) is None

    async def orchestrators(self) -> OrchestratorsSeen:
        return await (await self._pools()).seen()

    async def scale(self, pool: str, workers: int, *, host: str | None) -> list[OrchestratorInfo]:
        return await (await self._pools()).scale(pool, workers, host=host)

    async def search(self, tenant: str, request: SearchRequest) -> SearchHits:
        from embedfleet.one_search import search_once

        return await search_once(self._settings, tenant, request)

    async def _pools(self) -> WorkerPools:
        from embedfleet.clock import SystemClock
        from embedfleet.records.audit import LOCAL
        from embedfleet.tracking.worker_pools import WorkerPools

        guest = await self._guest()
        return WorkerPools(guest.database, SystemClock(), guest.settings, actor=LOCAL)

    async def _guest(self) -> GuestSystem:
        if self._opened is None:
            self._opened = await self._stack.enter_async_context(open_guest(self._settings))
        return self._opened


async def _loaded_models(settings: Settings) -> frozenset[str] | None:
    """Names of the models that running orchestrators or their workers have loaded; None if that is not known.

    Imports no model library, and creates no database.
    """
    from embedfleet.data_directory import owner_of
    from embedfleet.deployment import deployment_of
    from embedfleet.errors import EmbedfleetError

    if deployment_of(settings).owns_data_directory and owner_of(settings.data_dir) is None:
        return frozenset()
    from embedfleet.clock import SystemClock
    from embedfleet.records import fleet
    from embedfleet.sql.opening import open_database

    database = open_database(settings)
    try:
        await database.open()
        now = SystemClock().now()
        running = await database.read(lambda conn: fleet.running(conn, now))
    except EmbedfleetError:  # the list is useful without it, and `doctor` shows the error
        return None
    finally:
        await database.close()
    return fleet.loaded_models(running)
