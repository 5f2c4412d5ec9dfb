"""Texts of a micro-batch as one rectangle of token ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.tokenizer_file import TokenizerFacts


def pad(
    batch: TokenBatch, tokenizer: TokenizerFacts, *, least_columns: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`ids` and `mask`, int64 (n, longest), with special tokens added and padded on the right.

    `mask` is 1 at a text's own tokens and 0 at padding. There are at least `least_columns` columns. The batch
    has at least one text.
    """
    before, after = len(tokenizer.prefix), len(tokenizer.suffix)
    columns = np.arange(max(before + int(batch.lengths.max()) + after, least_columns))
    ends = batch.lengths[:, None] + before
    ids = np.full((len(batch), len(columns)), tokenizer.pad_id, dtype=np.int64)
    ids[:, :before] = tokenizer.prefix
    ids[(columns >= before) & (columns < ends)] = batch.token_ids
    for offset, token in enumerate(tokenizer.suffix):
        ids[np.arange(len(batch)), ends[:, 0] + offset] = token
    return ids, (columns < ends + after).astype(np.int64)
