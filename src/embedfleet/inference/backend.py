"""The embedding port: texts as token ids in, vectors out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Role = Literal["document", "query"]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Texts as token ids, without special tokens and prefixes.

    `token_ids`: uint32 (sum(lengths),), concatenated; `lengths`: int64 (n,), each >= 0. `texts`: the same as
    strings, which only a model that says `needs_texts` must be given. `role`: what they are, for models
    that tell queries from documents.
    """

    token_ids: NDArray[np.uint32]
    lengths: NDArray[np.int64]
    texts: tuple[str, ...] | None = None
    role: Role = "document"

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, positions: NDArray[np.int64]) -> TokenBatch:
        """The batch of these positions, in this order (a copy)."""
        starts = np.concatenate(([0], np.cumsum(self.lengths)))
        parts = [self.token_ids[starts[p] : starts[p + 1]] for p in positions]
        return replace(
            self,
            token_ids=np.concatenate(parts) if parts else np.empty(0, dtype=np.uint32),
            lengths=self.lengths[positions],
            texts=None if self.texts is None else tuple(self.texts[p] for p in positions),
        )


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model is. `space` is the fingerprint of everything that decides a vector's value.

    `max_tokens` counts what a chunk may have: special tokens and prefixes, which are added on the way to the
    model, are taken off. `pads`: all texts of a call cost as much as the longest. `texts_per_call`: a call
    has no more; None: tokens alone count.
    """

    name: str
    dim: int
    max_tokens: int
    space: str
    tokenizer_file: Path
    description: str
    size_bytes: int
    needs_texts: bool = False
    pads: bool = False
    texts_per_call: int | None = None


class EmbeddingBackend(Protocol):
    """One loaded model. Not thread-safe: one owned thread calls it."""

    @property
    def info(self) -> ModelInfo: ...

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        """float32 (n, dim), L2-normalised when the model says so; row i is text i of the batch.

        A row does not depend on the others (cosine >= 0.99999 against alone); one that is not finite
        says that the model failed on this text. Raises ModelError for token ids outside the vocabulary
        and a text over `max_tokens`, before the model runs, MemoryError when the batch was too much
        at once, and Transient when it is no fault of the texts (a server that does not answer).
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class LaunchingBackend(EmbeddingBackend, Protocol):
    """One whose device works by itself: while it does, the next batch can be made ready and handed over."""

    def start(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        """Begin what `embed_tokens` does, and return what waits for its result.

        Batches are done in the order of their start. Both calls raise what `embed_tokens` may, and both
        belong to the owned thread.
        """
        ...


@runtime_checkable
class Interruptible(Protocol):
    """A backend that may have to wait, for a server."""

    def interrupt(self) -> None:
        """By any thread: what waits in `embed_tokens` raises Transient, now and from now on."""
        ...


def interrupt(backend: EmbeddingBackend) -> None:
    """Any backend; one that does not wait goes on."""
    if isinstance(backend, Interruptible):
        backend.interrupt()


BackendFactory = Callable[[], EmbeddingBackend]
