"""The system of a server, through its HTTP API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedfleet.cli.systems.served_experiments import ServedExperiments
from embedfleet.cli.systems.served_intake import ServedIntake
from embedfleet.cli.systems.served_switches import ServedSwitches
from embedfleet.cli.systems.served_traffic import ServedShadows, ServedTraffic
from embedfleet.cli.systems.workers import WorkersElsewhere
from embedfleet.errors import InvalidRequest, UnknownModel, hint

if TYPE_CHECKING:
    from embedfleet.client import AsyncClient
    from embedfleet.client.calls.defaults import Defaults
    from embedfleet.explanation import JobExplanation
    from embedfleet.inference.model_list import ListedModel
    from embedfleet.lifecycle.estimates import Budget
    from embedfleet.queue_schemas import ChunkingConfig, Receipt, SearchHits
    from embedfleet.searching.search import SearchRequest
    from embedfleet.tracking.worker_pools import OrchestratorInfo, OrchestratorsSeen


class ServedSystem:
    """A system that a server has. The caller opens and closes the client."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._known_defaults: Defaults | None = None

    async def jobs(self, tenant: str | None) -> AsyncClient:
        return self._client.of_all_tenants() if tenant is None else self._client.of(tenant)

    async def tenant(self, named: str | None) -> str:
        own = named or (await self._client.me()).tenant_id
        if own is None:
            raise InvalidRequest("the API key is an operator's and belongs to no tenant: give --tenant")
        return own

    async def jobs_of(self, tenant: str) -> AsyncClient:
        return self._client.of(tenant)

    async def require_model(self, name: str | None) -> None:
        known = (await self._defaults()).models
        if name is not None and name not in known:
            raise UnknownModel(f"no model `{name}` in the catalogue: {hint(name, known)}")

    async def catalogue(self) -> list[ListedModel]:
        return await self._client.catalogue()

    async def chunking(self, given: Mapping[str, Any]) -> ChunkingConfig:
        return (await self._client.defaults(given)).chunking

    async def intake(self, tenant: str, *, budget: Budget | None = None) -> ServedIntake:
        return ServedIntake(self._client.of(tenant), await self._defaults(), budget=budget)

    def workers(self, *, purpose: str, announce: Callable[[str], None]) -> WorkersElsewhere:
        return WorkersElsewhere()

    async def wait_for_cleanups(self) -> None:
        """The server does it by itself."""

    async def explain_job(self, tenant: str | None, job_id: str) -> JobExplanation:
        return await (await self.jobs(tenant)).explain_job(job_id)

    async def explain_document(self, tenant: str, media_id: str) -> JobExplanation:
        return await self._client.of(tenant).explain_document(media_id=media_id)

    async def searched_receipts(
        self, tenant: str, receipt_ids: Sequence[str], *, purpose: str, announce: Callable[[str], None]
    ) -> list[Receipt]:
        client = self._client.of(tenant)
        return [await client.searched_receipt(receipt_id) for receipt_id in receipt_ids]

    async def administration(self) -> AsyncClient:
        return self._client.of_all_tenants()

    async def traffic(self) -> ServedTraffic:
        return ServedTraffic(self._client.of_all_tenants())

    async def shadows(self) -> ServedShadows:
        return ServedShadows(self._client.of_all_tenants())

    async def switches(self) -> ServedSwitches:
        return ServedSwitches(self._client.of_all_tenants())

    def stands_still(self) -> bool:
        return False

    async def experiments(self) -> ServedExperiments:
        return ServedExperiments(self._client.of_all_tenants())

    async def orchestrators(self) -> OrchestratorsSeen:
        return await self._client.orchestrators()

    async def scale(self, pool: str, workers: int, *, host: str | None) -> list[OrchestratorInfo]:
        return await self._client.scale(pool, workers, host=host)

    async def search(self, tenant: str, request: SearchRequest) -> SearchHits:
        return await self._client.of(tenant).search(request)

    async def _defaults(self) -> Defaults:
        if self._known_defaults is None:
            self._known_defaults = await self._client.defaults()
        return self._known_defaults
