"""Vectors that lie in groups, as those of texts do, so that approximate search has something to find."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def clustered(n: int, dim: int, *, seed: int = 0) -> NDArray[np.float32]:
    """float32 (n, dim) of length 1. Vectors of every seed lie around the same 40 centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((40, dim))
    points = centres[rng.integers(0, len(centres), n)] + 0.7 * rng.standard_normal((n, dim))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), dtype=np.float32)
