"""The port: texts in, vectors out, while a caller waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of one request.

    `vectors`: float32 (n, dim), zero in the rows that `failed` (position -> reason) names. `queue_seconds` is
    the time that the texts waited for the model, and `inference_seconds` what the model took.
    """

    vectors: NDArray[np.float32]
    failed: Mapping[int, str]
    queue_seconds: float
    inference_seconds: float


class TextEmbedder(Protocol):
    """Embeds the texts of callers that wait. It goes before documents, and tenants take turns."""

    @property
    def loaded_models(self) -> list[str]:
        """The names of the models that are ready in this process, sorted."""
        ...

    @property
    def known_models(self) -> list[str]:
        """The names of all models of the catalogue, sorted."""
        ...

    def require_known(self, model: str) -> None:
        """Raise UnknownModel, which names the nearest known model, if there is no model of this name."""
        ...

    async def info(self, model: str) -> ModelInfo:
        """Return what the model is, without loading it. Raises UnknownModel, and ModelError for its files."""
        ...

    async def embed(
        self, info: ModelInfo, batch: TokenBatch, *, tenant: str, timeout_seconds: float | None = None
    ) -> Embedded:
        """Embed the texts with the model that `info` described. No text may have more than its `max_tokens`.

        A caller that is cancelled, or whose time is over, withdraws the texts that the model has not begun.

        Raises Transient if the vectors are not there after `timeout_seconds` (None: it waits as long as it
        takes), if the model cannot be used now, or if the broker is away. Raises SpaceMismatch if the model
        that is loaded is another one than `info` says, ModelError if it cannot be loaded, and ModelFailure if
        it fails over the texts.
        """
        ...


class KnownModels:
    """The models of a catalogue. Their files are read once, on a thread."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._infos: dict[str, ModelInfo] = {}

    def names(self) -> list[str]:
        return self._catalogue.names()

    def require_known(self, model: str) -> None:
        self._catalogue.settings_of(model)

    async def info(self, model: str) -> ModelInfo:
        if model not in self._infos:
            self._infos[model] = await asyncio.to_thread(self._catalogue.info, model)
        return self._infos[model]
