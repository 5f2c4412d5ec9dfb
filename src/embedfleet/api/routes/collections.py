"""Collections and models: what there is to embed with, and what was embedded."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from pydantic import BaseModel

from embedfleet.api.access import Parts, Reader
from embedfleet.api.fields import jobs_within
from embedfleet.api.problems import responses
from embedfleet.inference.model_list import ListedModel, list_models
from embedfleet.queue_schemas import CollectionInfo
from embedfleet.records import fleet

router = APIRouter(prefix="/v1", tags=["collections"])


class Collections(BaseModel):
    """All collections of a tenant, oldest first."""

    collections: list[CollectionInfo]


class ModelCatalogue(BaseModel):
    """All models of the installation, by name."""

    models: list[ListedModel]


@router.get("/collections", responses=responses())
async def list_collections(parts: Parts, caller: Reader) -> Collections:
    """The collections: a tenant has one for each space of vectors. An operator may see those of all."""
    return Collections(collections=await jobs_within(parts, caller).list_collections())


@router.get("/catalogue", responses=responses())
async def list_catalogue(parts: Parts, _caller: Reader) -> ModelCatalogue:
    """The models with which this installation embeds. `/v1/models` names them in OpenAI's form."""
    now = parts.clock.now()
    running = await parts.database.read(lambda conn: fleet.running(conn, now))
    loaded = fleet.loaded_models(running)
    # It reads the files of models.
    found = await asyncio.to_thread(list_models, parts.catalogue, parts.settings.models, loaded)
    return ModelCatalogue(models=found)
