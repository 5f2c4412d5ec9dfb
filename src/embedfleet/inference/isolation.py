"""One bad text must not cost its batch-mates their vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelError, ModelExhausted, Transient
from embedfleet.inference.backend import EmbeddingBackend, TokenBatch

NOT_FINITE = "the model's output is not finite"


@dataclass(frozen=True, slots=True)
class IsolatedOutcome:
    """`vectors`: float32 (n, dim), zero where `failed` (position -> reason) names the row."""

    vectors: NDArray[np.float32]
    failed: Mapping[int, str]
    ran_out_of_memory: bool


def embed_isolated(
    backend: EmbeddingBackend, batch: TokenBatch, whole: Callable[[], NDArray[np.float32]] | None = None
) -> IsolatedOutcome:
    """Embed what can be embedded: a batch that fails is halved until the failing texts are alone.

    k bad texts of n cost about 2 k log2(n) extra calls. Memory that runs out is met the same way, but
    is no fault of the text: ModelExhausted if even one text alone does not fit. `whole` waits for the call
    for the whole batch, where that was started before.
    """
    vectors = np.zeros((len(batch), backend.info.dim), dtype=np.float32)
    failed: dict[int, str] = {}
    ran_out_of_memory = False
    spans = [(0, len(batch))] if len(batch) else []
    while spans:
        start, end = spans.pop()
        try:
            vectors[start:end] = _embed(backend, batch, start, end, whole)
            continue
        except MemoryError as exc:
            ran_out_of_memory = True
            if end - start == 1:
                raise ModelExhausted(
                    f"model {backend.info.name}: out of memory for a single text of "
                    f"{batch.lengths[start]} tokens: free memory or run fewer models"
                ) from exc
        except Transient:  # no text's fault
            raise
        except Exception as exc:  # noqa: BLE001  whatever a model library raises, it is this span's
            if end - start == 1:
                failed[start] = _reason(exc)
                continue
        middle = (start + end) // 2
        spans += [(middle, end), (start, middle)]
    for position in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        failed[position] = NOT_FINITE
        vectors[position] = 0
    return IsolatedOutcome(vectors, failed, ran_out_of_memory)


def _embed(
    backend: EmbeddingBackend,
    batch: TokenBatch,
    start: int,
    end: int,
    whole: Callable[[], NDArray[np.float32]] | None,
) -> NDArray[np.float32]:
    if end - start < len(batch):
        vectors = backend.embed_tokens(batch.take(np.arange(start, end)))
    else:
        vectors = whole() if whole else backend.embed_tokens(batch)
    if vectors.shape != (end - start, backend.info.dim):
        raise ModelError(
            f"model {backend.info.name}: {vectors.shape} vectors for {end - start} texts "
            f"of dimension {backend.info.dim}"
        )
    return vectors


def _reason(exc: Exception) -> str:
    """One line; errors of our own speak for themselves."""
    message = " ".join(str(exc).split())
    return message if isinstance(exc, ModelError) else f"{type(exc).__name__}: {message}"
