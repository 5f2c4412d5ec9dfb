"""Backend `static` (model2vec): the mean of the tokens' rows in a table. No attention, no padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelError
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.backends.admission import admit
from embedfleet.inference.backends.normalise import l2_normalised
from embedfleet.inference.description import Description, Place
from embedfleet.inference.model_files import (
    ModelFiles,
    find_bundled_static,
    model_folder,
    read_static_folder,
)
from embedfleet.inference.segments import sum_segments
from embedfleet.settings import ModelSettings

adds_special_tokens = False
pools = False
pads = False


def find_files(settings: ModelSettings) -> ModelFiles:
    folder = model_folder(settings)
    return read_static_folder(folder) if folder else find_bundled_static()


def devices(settings: ModelSettings) -> Sequence[str]:
    return ("cpu",) * len(settings.devices)


def open_backend(model: Description, place: Place) -> StaticBackend:
    return StaticBackend(model.files.weights[0], info=model.core, normalise=model.settings.normalise)


class StaticBackend:
    """A token table. A row of the result depends on its text alone. Unknown tokens do not count, as in
    model2vec."""

    def __init__(self, weights: Path, *, info: ModelInfo, normalise: bool) -> None:
        """Raises ModelError if model2vec is missing or cannot read the files."""
        model = _load(weights, info)
        self.info = info
        self._table = _token_table(model)
        self._unknown_id: int | None = model.unk_token_id
        self._normalise = normalise

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        admit(batch, self.info, len(self._table))
        known = self._without_unknown(batch)
        sums = self._sums(known)
        means = sums / np.maximum(known.lengths, 1).astype(np.float32)[:, None]
        return l2_normalised(means) if self._normalise else means

    def _sums(self, batch: TokenBatch) -> NDArray[np.float32]:
        """float32 (n, dim). Text by text, because the rows of one text fit the processor's cache: 5 times as
        fast as all texts at once."""
        sums = np.zeros((len(batch), self.info.dim), dtype=np.float32)
        start = 0
        for row, length in enumerate(batch.lengths.tolist()):
            np.add.reduce(self._table[batch.token_ids[start : start + length]], axis=0, out=sums[row])
            start += length
        return sums

    def close(self) -> None:
        """Does nothing: the table is freed with the object."""

    def _without_unknown(self, batch: TokenBatch) -> TokenBatch:
        if self._unknown_id is None:
            return batch
        keep = batch.token_ids != self._unknown_id
        kept_lengths = sum_segments(keep.astype(np.uint64), batch.lengths).astype(np.int64)
        return TokenBatch(batch.token_ids[keep], kept_lengths)


def _load(weights: Path, info: ModelInfo) -> Any:
    try:
        from model2vec import StaticModel
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer
    except ImportError as exc:
        raise ModelError(
            f"model `{info.name}`: {exc.name} is not installed: install the extra `static` of embedfleet"
        ) from exc
    try:
        tensors = load_file(weights)
        table = tensors["embeddings"] if "embeddings" in tensors else tensors["embedding.weight"]
        return StaticModel(
            table,
            Tokenizer.from_file(str(info.tokenizer_file)),
            weights=tensors.get("weights"),
            token_mapping=tensors.get("mapping"),
        )
    except Exception as exc:  # tokenizers and safetensors raise bare Exceptions
        raise ModelError(f"model `{info.name}`: {weights} cannot be loaded ({exc})") from exc


def _token_table(model: Any) -> NDArray[np.float32]:
    """float32 (vocabulary, dim): each token's row, with the model's mapping and weights applied."""
    table = model.embedding if model.token_mapping is None else model.embedding[model.token_mapping]
    rows: NDArray[np.float32] = table.astype(np.float32)
    if model.weights is not None:
        rows *= model.weights.astype(np.float32)[:, None]
    return rows
