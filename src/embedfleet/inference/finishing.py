"""Wraps a backend: puts prefixes before its texts, and shortens its vectors to fewer dimensions."""

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

# Words of different kinds, to find out whether a tokenizer joins the end of a prefix with the text after it.
_PROBES = ("word", "Word", "1990", "(aside)", "été", "中文", "#x", "'s")


def most_prefix_tokens(settings: ModelSettings) -> int:
    """An upper bound of the tokens of the longer prefix, found without a tokenizer: each token has at least a
    byte."""
    return max(len(prefix.strip().encode()) for prefix in (settings.query_prefix, settings.document_prefix))


def finished(backend: EmbeddingBackend, model: Description) -> EmbeddingBackend:
    """The backend, wrapped if its `model.core` differs from `model.info`, which callers see.

    Raises ModelError for a prefix that the tokenizer joins with the text after it; then it has closed the
    backend.
    """
    if model.info == model.core:
        return backend
    try:
        add_prefix = _prefixing(model)
    except BaseException:
        backend.close()
        raise
    if isinstance(backend, LaunchingBackend):
        return _LaunchingFinished(backend, model, add_prefix)
    return _Finished(backend, model, add_prefix)


class _Finished:
    """Adds the prefix to each text, and keeps the first dimensions of each vector (Matryoshka
    representations, Kusupati et al. 2022), normalised again if the model says so."""

    def __init__(
        self, backend: EmbeddingBackend, model: Description, add_prefix: Callable[[TokenBatch], TokenBatch]
    ) -> None:
        self.info: ModelInfo = model.info
        self._backend = backend
        self._add_prefix = add_prefix
        self._shortens = model.info.dim < model.core.dim
        self._normalise = model.settings.normalise

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        return self._shortened(self._backend.embed_tokens(self._add_prefix(batch)))

    def interrupt(self) -> None:
        interrupt(self._backend)

    def close(self) -> None:
        self._backend.close()

    def _shortened(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._shortens:
            return vectors
        kept = vectors[:, : self.info.dim]
        return l2_normalised(kept) if self._normalise else np.ascontiguousarray(kept)


class _LaunchingFinished(_Finished):
    def __init__(
        self, backend: LaunchingBackend, model: Description, add_prefix: Callable[[TokenBatch], TokenBatch]
    ) -> None:
        super().__init__(backend, model, add_prefix)
        self._start = backend.start

    def start(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        wait = self._start(self._add_prefix(batch))
        return lambda: self._shortened(wait())


def with_prefix(batch: TokenBatch, prefix: NDArray[np.uint32]) -> TokenBatch:
    """The batch with the tokens `prefix`, uint32 (k,), before the tokens of each text."""
    starts = np.cumsum(batch.lengths) - batch.lengths
    ids = np.insert(batch.token_ids, np.repeat(starts, len(prefix)), np.tile(prefix, len(batch)))
    return replace(batch, token_ids=ids, lengths=batch.lengths + len(prefix))


def _prefixing(model: Description) -> Callable[[TokenBatch], TokenBatch]:
    """The function that puts the prefix of a batch's role before each text, as tokens or as strings:
    whichever the model reads."""
    settings = model.settings
    prefixes: dict[Role, str] = {"query": settings.query_prefix, "document": settings.document_prefix}
    if not any(prefixes.values()):
        return lambda batch: batch
    if model.info.needs_texts:
        return lambda batch: _with_text_prefix(batch, prefixes[batch.role])
    ids = {role: np.array(_prefix_ids(text, model), dtype=np.uint32) for role, text in prefixes.items()}
    return lambda batch: with_prefix(batch, ids[batch.role])


def _with_text_prefix(batch: TokenBatch, prefix: str) -> TokenBatch:
    return replace(batch, texts=None if batch.texts is None else tuple(prefix + text for text in batch.texts))


def _prefix_ids(prefix: str, model: Description) -> list[int]:
    """The tokens of the prefix. Raises ModelError unless they are the same whatever text follows: chunks are
    tokenised without the prefix, and its tokens are put before theirs."""
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
