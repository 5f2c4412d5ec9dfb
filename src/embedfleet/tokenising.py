"""Texts as a model takes them: where none came from the chunker, which tokenises by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import ModelInfo, Role, TokenBatch


def tokenised(texts: Sequence[str], info: ModelInfo, *, role: Role = "document") -> TokenBatch:
    """Blocking; a tokenizer is loaded when first used. A text may have more tokens than the model takes."""
    token_ids, lengths = load_tokenizer(info.tokenizer_file).encode_batch(list(texts))
    return TokenBatch(token_ids, lengths, tuple(texts) if info.needs_texts else None, role)


def cut(batch: TokenBatch, info: ModelInfo) -> TokenBatch:
    """Each text's first tokens, as many as the model takes: for texts whose end nobody needs."""
    starts = np.cumsum(batch.lengths) - batch.lengths
    kept = np.minimum(batch.lengths, info.max_tokens)
    spans = zip(starts.tolist(), kept.tolist(), strict=True)
    ids = np.concatenate([batch.token_ids[start : start + length] for start, length in spans])
    return TokenBatch(ids, kept, batch.texts, batch.role)
