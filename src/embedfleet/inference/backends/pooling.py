"""The vectors of a text's tokens to one vector of the text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.space import Pooling


def pool(hidden: NDArray[np.float32], mask: NDArray[np.int64], pooling: Pooling) -> NDArray[np.float32]:
    """float32 (n, longest, dim), padded on the right where `mask` (n, longest) is 0, to (n, dim)."""
    match pooling:
        case "mean":
            return mean_pool(hidden, mask)
        case "cls":
            return hidden[:, 0]
        case "last":
            last: NDArray[np.float32] = hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
            return last


def mean_pool(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean over a text's own tokens, special ones included: (n, longest, dim) to (n, dim)."""
    weights = mask.astype(np.float32)
    sums = np.einsum("ns,nsd->nd", weights, hidden)  # not matmul: OpenBLAS ends the process without memory
    means: NDArray[np.float32] = sums / np.maximum(weights.sum(axis=1, keepdims=True), 1)
    return means
