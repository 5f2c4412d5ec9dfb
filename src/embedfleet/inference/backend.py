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

    `token_ids`: uint32 (sum(lengths),), the texts one after the other. `lengths`: int64 (n,), each >= 0.
    `texts`: the same texts as strings; only a model with `needs_texts` must be given them. `role`: some
    models embed queries and documents differently.
    """

    token_ids: NDArray[np.uint32]
    lengths: NDArray[np.int64]
    texts: tuple[str, ...] | None = None
    role: Role = "document"

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, positions: NDArray[np.int64]) -> TokenBatch:
        """A batch of the texts at these positions, int64 (k,), in this order."""
        if len(positions) == len(self) and np.array_equal(positions, np.arange(len(self))):
            return self
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

    `max_tokens`: the most tokens of a chunk. Special tokens and prefixes are added later and are already
    subtracted. `pads`: each text of a call costs as much as the longest. `texts_per_call`: the most texts of
    one call; None: only tokens limit a call. `matryoshka`: the first values of a vector are a shorter vector
    of the same meaning. `accepts_ids_below`: token ids of callers are of this model's tokenizer, and below
    this number; 0: no ids are taken.
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
    matryoshka: bool = False
    accepts_ids_below: int = 0


class EmbeddingBackend(Protocol):
    """One loaded model. Not thread-safe: only the thread that owns it calls it."""

    @property
    def info(self) -> ModelInfo: ...

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        """float32 (n, dim), L2-normalised if the settings say so; row i is the vector of text i.

        A row does not depend on the other texts (cosine >= 0.99999 to the text embedded alone). A row that is
        not finite says that the model failed on this text. Raises ModelError for token ids outside the
        vocabulary and for a text over `max_tokens`, before the model runs; MemoryError when the batch does
        not fit into memory; Transient when the texts are not at fault, as when a server does not answer.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class LaunchingBackend(EmbeddingBackend, Protocol):
    """A backend whose device works by itself: while it runs a batch, the thread can prepare the next one and
    hand it over."""

    def start(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        """Begin what `embed_tokens` does, and return a function that waits for the result.

        Batches are run in the order in which they were started. `start` and the function it returns raise
        what `embed_tokens` raises, and only the thread that owns the backend may call them.
        """
        ...


@runtime_checkable
class Interruptible(Protocol):
    """A backend that may have to wait for a server."""

    def interrupt(self) -> None:
        """Called by any thread: a call that waits in `embed_tokens` raises Transient, and so does every later
        call that would wait."""
        ...


def interrupt(backend: EmbeddingBackend) -> None:
    """Interrupt any backend. Without effect on one that does not wait for a server."""
    if isinstance(backend, Interruptible):
        backend.interrupt()


BackendFactory = Callable[[], EmbeddingBackend]
