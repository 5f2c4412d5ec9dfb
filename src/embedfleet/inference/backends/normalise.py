"""Unit length for vectors that have a direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def l2_normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (n, dim), rows of length 1; a zero row has no direction and stays zero, and one that is not
    finite stays so: it must be seen that the model failed on it."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms != 0)
    return unit
