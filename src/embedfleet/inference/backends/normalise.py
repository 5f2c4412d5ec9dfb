"""Unit length for vectors that have a direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def l2_normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (n, dim), each row scaled to length 1.

    A zero row has no direction and stays zero. A row that is not finite stays not finite, so that the caller
    sees that the model failed on this text.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms != 0)
    return unit
