"""Worker pools: look, change their sizes. For operators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from embedfleet.api.access import Operator, Parts, Principal
from embedfleet.api.fields import NO_NUL
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import responses
from embedfleet.records.audit import LOCAL
from embedfleet.tracking.worker_pools import OrchestratorInfo, OrchestratorsSeen, WorkerPools

router = APIRouter(prefix="/v1/pools", tags=["pools"])

_Pool = Annotated[
    str, Path(description="chunking, embedding, storage or deletion.", max_length=64, pattern=NO_NUL)
]
_Host = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]


class Where(BaseModel):
    """Which orchestrators are meant."""

    model_config = ConfigDict(extra="forbid")

    host: _Host | None = Field(
        default=None, description="Only those of this host, or the one with this id; null: all."
    )


class Size(Where):
    """The size of a pool, and of which orchestrators."""

    workers: int = Field(ge=0, le=100_000, description="How many workers each has from now on.")


class Told(BaseModel):
    """The orchestrators that were told. They act at their next heartbeat."""

    orchestrators: list[OrchestratorInfo]


@router.get("", responses=responses())
async def list_pools(parts: Parts, caller: Operator) -> OrchestratorsSeen:
    """The pools of every orchestrator that runs, and the orchestrators lost within the last hour."""
    return await _pools(parts, caller).seen()


@router.post("/{pool}/scale", status_code=202, responses=responses())
async def scale_pool(parts: Parts, caller: Operator, pool: _Pool, size: Size) -> Told:
    """Change the size of a pool on running orchestrators, without a restart. Surplus workers drain."""
    return Told(orchestrators=await _pools(parts, caller).scale(pool, size.workers, host=size.host))


@router.post("/{pool}/drain", status_code=202, responses=responses())
async def drain_pool(parts: Parts, caller: Operator, pool: _Pool, where: Where | None = None) -> Told:
    """Have the workers of a pool finish what they have in hand, and take no more. To go on, scale it."""
    host = None if where is None else where.host
    return Told(orchestrators=await _pools(parts, caller).scale(pool, 0, host=host))


def _pools(parts: ApiParts, caller: Principal) -> WorkerPools:
    return WorkerPools(parts.database, parts.clock, parts.settings, actor=caller.key or LOCAL)
