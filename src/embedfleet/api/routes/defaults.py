"""What holds where a request says nothing else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from embedfleet.api.access import Parts, Reader
from embedfleet.api.problems import responses
from embedfleet.inference.catalogue import Catalogue
from embedfleet.queue_schemas import ChunkingConfig, ChunkMethod, ChunkUnit

router = APIRouter(prefix="/v1", tags=["identity"])


class Defaults(BaseModel):
    """What holds for a document that says nothing else."""

    model: str = Field(
        description="The model that embeds it, unless a rule of routing or the tenant's own model counts."
    )
    models: list[str] = Field(description="The names of all models that may be chosen.")
    chunking: ChunkingConfig = Field(description="How it is cut if it says only what the query says.")
    ocr: bool = Field(description="Whether the text of scanned pages is read.")


class Chunking(BaseModel):
    """What a document says about how it is cut. What is left out is as the settings say."""

    model_config = ConfigDict(extra="forbid")

    chunk_size: int | None = Field(default=None, description="Largest chunk, in `unit`.")
    overlap: int | None = Field(
        default=None,
        description="Repeated from the chunk before, in `unit`. At most a fifth of a given size.",
    )
    unit: ChunkUnit | None = Field(default=None, description="What both sizes are counted in.")
    method: ChunkMethod | None = Field(default=None, description="Where chunks may end.")
    context: bool | None = Field(default=None, description="Embed title and headings before each chunk.")


@router.get("/defaults", responses=responses())
async def defaults(parts: Parts, _caller: Reader, said: Annotated[Chunking, Query()]) -> Defaults:
    """The server's defaults."""
    settings = parts.settings
    return Defaults(
        model=settings.models.default,
        models=Catalogue(settings.models).names(),
        chunking=settings.chunking.changed(said.model_dump(exclude_none=True)),
        ocr=settings.parsing.ocr,
    )
