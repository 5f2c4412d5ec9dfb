"""Embeds a batch so that one bad text does not cost the others their vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelError, ModelExhausted, Transient, one_line
from embedfleet.inference.backend import EmbeddingBackend, TokenBatch

NOT_FINITE = "the model's output is not finite"


@dataclass(frozen=True, slots=True)
class IsolatedOutcome:
    """`vectors`: float32 (n, dim), zero in the rows that `failed` (position -> reason) names."""

    vectors: NDArray[np.float32]
    failed: Mapping[int, str]
    ran_out_of_memory: bool


def embed_isolated(
    backend: EmbeddingBackend,
    batch: TokenBatch,
    wait_for_whole: Callable[[], NDArray[np.float32]] | None = None,
) -> IsolatedOutcome:
    """Embed what can be embedded: a batch that fails is halved until each failing text is alone.

    k bad texts of n cost about 2 k log2(n) extra calls. A batch that runs out of memory is halved in the same
    way, but a text is not at fault for that: ModelExhausted is raised if a single text does not fit.
    `wait_for_whole` returns the result of the call for the whole batch, if that call was started before.
    Raises Transient as the backend does.
    """
    vectors = np.zeros((len(batch), backend.info.dim), dtype=np.float32)
    failed: dict[int, str] = {}
    ran_out_of_memory = False
    spans = [(0, len(batch))] if len(batch) else []
    while spans:
        start, end = spans.pop()
        try:
            vectors[start:end] = _embed_span(backend, batch, start, end, wait_for_whole)
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
        except Exception as exc:  # noqa: BLE001  any exception of a model library counts against the span
            if end - start == 1:
                failed[start] = _reason(exc)
                continue
        middle = (start + end) // 2
        spans += [(middle, end), (start, middle)]  # the last is popped first, so texts stay in order
    for position in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        failed[position] = NOT_FINITE
        vectors[position] = 0
    return IsolatedOutcome(vectors, failed, ran_out_of_memory)


def _embed_span(
    backend: EmbeddingBackend,
    batch: TokenBatch,
    start: int,
    end: int,
    wait_for_whole: Callable[[], NDArray[np.float32]] | None,
) -> NDArray[np.float32]:
    if end - start < len(batch):
        vectors = backend.embed_tokens(batch.take(np.arange(start, end)))
    else:
        vectors = wait_for_whole() if wait_for_whole else backend.embed_tokens(batch)
    if vectors.shape != (end - start, backend.info.dim):
        raise ModelError(
            f"model {backend.info.name}: {vectors.shape} vectors for {end - start} texts "
            f"of dimension {backend.info.dim}"
        )
    return vectors


def _reason(exc: Exception) -> str:
    """One line. A ModelError explains itself; for other exceptions the class is named, too."""
    message = one_line(exc)
    return message if isinstance(exc, ModelError) else f"{type(exc).__name__}: {message}"
