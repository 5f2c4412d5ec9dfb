"""Backend `stub`: vectors hashed from token ids, without a model, for tests and overhead benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.backends.admission import ANY_TOKEN_ID, admit
from embedfleet.inference.backends.normalise import l2_normalised
from embedfleet.inference.description import Description, Place
from embedfleet.inference.model_files import ModelFiles, bundled_tokenizer
from embedfleet.inference.segments import sum_segments
from embedfleet.settings import ModelSettings

adds_special_tokens = False
pools = False
pads = False

_DEFAULT_DIM = 64
# 2^64 divided by the golden ratio: SplitMix64's step.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def find_files(settings: ModelSettings) -> ModelFiles:
    return ModelFiles((), "stub", bundled_tokenizer(), settings.dim or _DEFAULT_DIM, None)


def devices(settings: ModelSettings) -> Sequence[str]:
    return ("cpu",) * len(settings.devices)


def open_backend(model: Description, place: Place) -> StubBackend:
    return StubBackend(model.core)


class StubBackend:
    """Deterministic on every machine; equal texts get equal vectors, to the last bit, in any batch.

    Texts that differ in one token, or in the order of tokens, get unrelated vectors.
    """

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self._columns = np.arange(1, info.dim + 1, dtype=np.uint64) * _GOLDEN

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        admit(batch, self.info, ANY_TOKEN_ID)
        starts = np.repeat(np.cumsum(batch.lengths) - batch.lengths, batch.lengths)
        place = (np.arange(len(batch.token_ids)) - starts).astype(np.uint64)
        tokens = _mix(batch.token_ids.astype(np.uint64) + (place << np.uint64(32)))
        digests = sum_segments(tokens, batch.lengths)
        bits = _mix(digests[:, None] + self._columns)
        # 24 bits are what a float32 holds exactly: -1 <= value < 1, the same on every machine.
        values = (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)
        return l2_normalised(values)

    def close(self) -> None:
        """Does nothing: the backend holds no resources."""


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), modulo 2^64."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
