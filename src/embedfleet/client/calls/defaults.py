"""What holds on the server where a request says nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from embedfleet.client.calls.reading import record
from embedfleet.client.steps import Ask, Steps
from embedfleet.queue_schemas import ChunkingConfig


class Defaults(BaseModel):
    """The server's defaults: the model, the names of all models, the chunking, whether scans are read."""

    model_config = ConfigDict(frozen=True)

    model: str
    models: tuple[str, ...]
    chunking: ChunkingConfig
    ocr: bool


def defaults(chunking: Mapping[str, Any] | None = None) -> Steps[Defaults]:
    """Return what holds for a document that says nothing else, but of its chunking these values.

    Raises InvalidRequest for values that contradict each other.
    """
    return record(Defaults, (yield Ask("GET", "/v1/defaults", params=chunking or {})))
