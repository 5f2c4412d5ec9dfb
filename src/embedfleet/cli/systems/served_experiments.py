"""The comparisons of models of a server's system, through its HTTP API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedfleet.client import AsyncClient
    from embedfleet.experiments.schemas import (
        ExperimentInfo,
        ExperimentRequest,
        ExperimentResults,
        PlannedExperiment,
    )
    from embedfleet.records.cursors import Page


class ServedExperiments:
    """Gives the operations of a client the names that they have beside the database."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def plan(self, request: ExperimentRequest) -> PlannedExperiment:
        return await self._client.plan_experiment(request)

    async def begin(self, request: ExperimentRequest) -> ExperimentInfo:
        return await self._client.begin_experiment(request)

    async def list_experiments(self, *, limit: int = 100, after: str | None = None) -> Page[ExperimentInfo]:
        return await self._client.list_experiments(limit=limit, after=after)

    async def show(self, experiment_id: str) -> ExperimentResults:
        return await self._client.get_experiment(experiment_id)

    async def end(self, experiment_id: str) -> ExperimentInfo:
        return await self._client.end_experiment(experiment_id)

    async def promote(self, experiment_id: str, arm: str | None = None) -> ExperimentInfo:
        return await self._client.promote_experiment(experiment_id, arm)
