"""What tells whether a vector in the store is still the one that was written.

Chroma scales vectors to length 1 when it takes them and then gives back the same bits for ever, which for a
quarter of the rows are not quite those it was sent. So a checksum is made of what was read back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BYTES = 8
SAME_COSINE = 0.999
"""From here on two vectors are the same text by the same model: rounding, of another batch or another
machine, stays far above, another text far below."""


def checksums_of(ids: Sequence[str], vectors: NDArray[np.float32]) -> dict[str, bytes]:
    """Eight bytes for each vector's float32 bytes, by id."""
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    return {
        row_id: hashlib.blake2b(row.tobytes(), digest_size=_BYTES).digest()
        for row_id, row in zip(ids, rows, strict=True)
    }


def same_direction(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Row by row, whether both are one vector but for length and rounding."""
    products, lengths = _products(left, right)
    return products >= SAME_COSINE * lengths


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row, whatever the lengths; 0 where one has none."""
    products, lengths = _products(left, right)
    return products / np.maximum(lengths, np.finfo(np.float64).tiny)


def _products(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row by row, the inner product, and that of the lengths."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return (a * b).sum(axis=1), np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
