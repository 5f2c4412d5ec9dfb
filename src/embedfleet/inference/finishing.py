"""What is the same for every way of running a model: prefixes before it, fewer dimensions after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelError
from embedfleet.inference.backend import (
    EmbeddingBackend,
    LaunchingBackend,
    ModelInfo,
    Role,
    TokenBatch,
    interrupt,
)
from embedfleet.inference.backends.normalise import l2_normalised
from embedfleet.inference.description import Description
from embedfleet.settings import ModelSettings

# How words begin: what a prefix may melt together with.
_PROBES = ("word", "Word", "1990", "(aside)", "été", "中文", "#x", "'s")


def most_prefix_tokens(settings: ModelSettings) -> int:
    """An upper bound that needs no tokenizer: no token is less than a byte."""
    return max(len(prefix.strip().encode()) for prefix in (settings.query_prefix, settings.document_prefix))


def finished(backend: EmbeddingBackend, model: Description) -> EmbeddingBackend:
    """The backend with `model.info` instead of `model.core`. Raises ModelError for a prefix that the
    tokenizer joins with what follows."""
    if model.info == model.core:
        return backend
    try:
        before = _prefixing(model)
    except BaseException:
        backend.close()
        raise
    if isinstance(backend, LaunchingBackend):
        return _LaunchingFinished(backend, model, before)
    return _Finished(backend, model, before)


class _Finished:
    """Changes what goes in, and keeps the first dimensions of what comes out (Kusupati et al. 2022,
    Matryoshka representations), of length 1 again."""

    def __init__(
        self, backend: EmbeddingBackend, model: Description, before: Callable[[TokenBatch], TokenBatch]
    ) -> None:
        self.info: ModelInfo = model.info
        self._backend = backend
        self._before = before
        self._shortens = model.info.dim < model.core.dim
        self._normalise = model.settings.normalise

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        return self._after(self._backend.embed_tokens(self._before(batch)))

    def interrupt(self) -> None:
        interrupt(self._backend)

    def close(self) -> None:
        self._backend.close()

    def _after(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._shortens:
            return vectors
        kept = vectors[:, : self.info.dim]
        return l2_normalised(kept) if self._normalise else np.ascontiguousarray(kept)


class _LaunchingFinished(_Finished):
    def __init__(
        self, backend: LaunchingBackend, model: Description, before: Callable[[TokenBatch], TokenBatch]
    ) -> None:
        super().__init__(backend, model, before)
        self._start = backend.start

    def start(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        wait = self._start(self._before(batch))
        return lambda: self._after(wait())


def with_prefix(batch: TokenBatch, prefix: NDArray[np.uint32]) -> TokenBatch:
    """The batch with these tokens, uint32 (k,), before each text's."""
    starts = np.cumsum(batch.lengths) - batch.lengths
    ids = np.insert(batch.token_ids, np.repeat(starts, len(prefix)), np.tile(prefix, len(batch)))
    return replace(batch, token_ids=ids, lengths=batch.lengths + len(prefix))


def _prefixing(model: Description) -> Callable[[TokenBatch], TokenBatch]:
    """Puts the role's prefix before each text, as the model reads them: tokens or strings."""
    settings = model.settings
    prefixes: dict[Role, str] = {"query": settings.query_prefix, "document": settings.document_prefix}
    if not any(prefixes.values()):
        return lambda batch: batch
    if model.info.needs_texts:
        return lambda batch: _with_words(batch, prefixes[batch.role])
    ids = {role: np.array(_prefix_ids(text, model), dtype=np.uint32) for role, text in prefixes.items()}
    return lambda batch: with_prefix(batch, ids[batch.role])


def _with_words(batch: TokenBatch, prefix: str) -> TokenBatch:
    return replace(batch, texts=None if batch.texts is None else tuple(prefix + text for text in batch.texts))


def _prefix_ids(prefix: str, model: Description) -> list[int]:
    """The prefix's tokens, which must be the same whatever follows: chunks are tokenised without it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model.files.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    ids = encode(prefix.rstrip())
    joined = [probe for probe in _PROBES if encode(prefix + probe) != ids + encode(probe)]
    if joined:
        raise ModelError(
            f"model {model.name}: its tokenizer joins the prefix {prefix!r} with what follows it, as in "
            f"{prefix + joined[0]!r}, and chunks are tokenised without it: end the prefix otherwise"
        )
    return ids
