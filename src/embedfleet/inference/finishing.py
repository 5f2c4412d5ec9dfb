"""What is the same for every way of running a model: prefixes before it, fewer dimensions after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelError
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, Role, TokenBatch, interrupt
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
    settings = model.settings
    prefixes: dict[Role, str] = {"query": settings.query_prefix, "document": settings.document_prefix}
    if any(prefixes.values()):
        try:
            backend = _prefixed(backend, model, prefixes)
        except BaseException:
            backend.close()
            raise
    if model.info.dim < model.core.dim:
        backend = _Shortened(backend, model)
    return backend


class _PrefixedTokens:
    """Puts the prefix's tokens before each text's."""

    def __init__(self, backend: EmbeddingBackend, model: Description, ids: Mapping[Role, list[int]]) -> None:
        self._backend = backend
        self._ids = {role: np.array(tokens, dtype=np.uint32) for role, tokens in ids.items()}
        self.info = replace(model.info, dim=model.core.dim)

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        return self._backend.embed_tokens(with_prefix(batch, self._ids[batch.role]))

    def close(self) -> None:
        self._backend.close()


class _PrefixedTexts:
    """Puts the prefix before each text."""

    def __init__(self, backend: EmbeddingBackend, model: Description, prefixes: Mapping[Role, str]) -> None:
        self._backend = backend
        self._prefixes = prefixes
        self.info = replace(model.info, dim=model.core.dim)

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        prefix = self._prefixes[batch.role]
        texts = None if batch.texts is None else tuple(prefix + text for text in batch.texts)
        return self._backend.embed_tokens(replace(batch, texts=texts))

    def interrupt(self) -> None:
        interrupt(self._backend)

    def close(self) -> None:
        self._backend.close()


class _Shortened:
    """Keeps the first dimensions (Kusupati et al. 2022, Matryoshka representations), of length 1 again."""

    def __init__(self, backend: EmbeddingBackend, model: Description) -> None:
        self._backend = backend
        self._normalise = model.settings.normalise
        self.info: ModelInfo = model.info

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        vectors = self._backend.embed_tokens(batch)[:, : self.info.dim]
        return l2_normalised(vectors) if self._normalise else np.ascontiguousarray(vectors)

    def interrupt(self) -> None:
        interrupt(self._backend)

    def close(self) -> None:
        self._backend.close()


def with_prefix(batch: TokenBatch, prefix: NDArray[np.uint32]) -> TokenBatch:
    """The batch with these tokens, uint32 (k,), before each text's."""
    starts = np.cumsum(batch.lengths) - batch.lengths
    ids = np.insert(batch.token_ids, np.repeat(starts, len(prefix)), np.tile(prefix, len(batch)))
    return replace(batch, token_ids=ids, lengths=batch.lengths + len(prefix))


def _prefixed(
    backend: EmbeddingBackend, model: Description, prefixes: Mapping[Role, str]
) -> EmbeddingBackend:
    if model.info.needs_texts:
        return _PrefixedTexts(backend, model, prefixes)
    ids = {role: _prefix_ids(text, model) for role, text in prefixes.items()}
    return _PrefixedTokens(backend, model, ids)


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
