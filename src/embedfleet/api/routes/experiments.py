"""Comparisons of two models, or of a model with the route, by a tenant's questions. For operators."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from embedfleet.api.access import Operator, Parts, Principal
from embedfleet.api.fields import NO_NUL, After, Limit, NextCursor
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.experiments.administration import ExperimentAdministration
from embedfleet.experiments.schemas import (
    ExperimentInfo,
    ExperimentRequest,
    ExperimentResults,
    PlannedExperiment,
    Promotion,
)
from embedfleet.records.audit import LOCAL

router = APIRouter(tags=["experiments"])

_ExperimentId = Annotated[str, Path(description="The id of a comparison.", max_length=64, pattern=NO_NUL)]


class ExperimentPage(BaseModel):
    """Some comparisons of a listing."""

    experiments: list[ExperimentInfo]
    next_cursor: NextCursor


@router.post("/v1/experiments:plan", responses=responses())
async def plan_experiment(parts: Parts, caller: Operator, wanted: ExperimentRequest) -> PlannedExperiment:
    """What a comparison would do: how many questions it needs, and what the second space costs."""
    return await _experiments(parts, caller).plan(wanted)


@router.post("/v1/experiments", status_code=201, responses=responses())
async def begin_experiment(parts: Parts, caller: Operator, wanted: ExperimentRequest) -> ExperimentInfo:
    """Begin a comparison. It ends by itself: when it is decided, and at its expiry at the latest.

    One of the two may be `route`: what the tenant has by its rules, in several spaces.
    The documents are embedded with the second model first. No search sees that space, but online.
    """
    return await _experiments(parts, caller).begin(wanted)


@router.get("/v1/experiments", responses=responses())
async def list_experiments(
    parts: Parts, caller: Operator, limit: Limit = 100, after: After = None
) -> ExperimentPage:
    """Comparisons, newest first."""
    page = await _experiments(parts, caller).list_experiments(limit=limit, after=after)
    return ExperimentPage(experiments=page, next_cursor=page.next_cursor)


@router.get("/v1/experiments/{experiment_id}", responses=responses(HTTPStatus.NOT_FOUND))
async def get_experiment(parts: Parts, caller: Operator, experiment_id: _ExperimentId) -> ExperimentResults:
    """All that is known of a comparison, with the worst and the best questions side by side."""
    return await _experiments(parts, caller).show(experiment_id)


@router.post("/v1/experiments/{experiment_id}/end", responses=responses(HTTPStatus.NOT_FOUND))
async def end_experiment(parts: Parts, caller: Operator, experiment_id: _ExperimentId) -> ExperimentInfo:
    """End a comparison with what is known by now, or free the space that an ended one still keeps."""
    return await _experiments(parts, caller).end(experiment_id)


@router.post("/v1/experiments/{experiment_id}/promote", responses=responses(HTTPStatus.NOT_FOUND))
async def promote_experiment(
    parts: Parts, caller: Operator, experiment_id: _ExperimentId, wanted: Promotion | None = None
) -> ExperimentInfo:
    """Give the tenant B, or the arm that is named. A model has to pass the gate; nothing is embedded again.

    From the route, all documents go to the model, and the tenant's rules end with the switch. If the tenant
    has the arm already, nothing changes, and the other space is freed.
    """
    arm = None if wanted is None else wanted.arm
    return await _experiments(parts, caller).promote(experiment_id, arm)


def _experiments(parts: ApiParts, caller: Principal) -> ExperimentAdministration:
    assert caller.is_operator
    return ExperimentAdministration(
        parts.database, parts.clock, parts.catalogue, parts.settings, actor=caller.key or LOCAL
    )
