"""Checksums of vectors, which tell whether a vector in the store is still the one that was written.

Chroma scales a vector to length 1 when it takes it, and from then on always returns the same bits. For a
quarter of the rows these bits differ slightly from those that were sent. So a checksum is made from the
vector that is read back, not from the vector that was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BYTES = 8
SAME_COSINE = 0.999
"""Two vectors with at least this cosine are of the same text by the same model. Rounding (another batch,
another machine) leaves the cosine far above this value; the vector of another text is far below it."""


def checksums_of(ids: Sequence[str], vectors: NDArray[np.float32]) -> dict[str, bytes]:
    """Return the checksum of each vector, by id: 8 bytes over the vector's little-endian float32 bytes."""
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    return {
        row_id: hashlib.blake2b(row.tobytes(), digest_size=_BYTES).digest()
        for row_id, row in zip(ids, rows, strict=True)
    }


def same_direction(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return, for each pair of rows, whether the two vectors are equal up to length and rounding."""
    products, lengths = _products(left, right)
    return products >= SAME_COSINE * lengths


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows. Lengths do not matter; a vector of length 0 gives 0."""
    products, lengths = _products(left, right)
    return products / np.maximum(lengths, np.finfo(np.float64).tiny)


def _products(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each pair of rows, their inner product and the product of their lengths."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return (a * b).sum(axis=1), np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
