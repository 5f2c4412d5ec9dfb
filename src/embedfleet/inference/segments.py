"""Sums over each text of a `TokenBatch`, without a Python loop and without padding."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.float32, np.uint64)


def sum_segments(rows: NDArray[Number], lengths: NDArray[np.int64]) -> NDArray[Number]:
    """Sum consecutive runs of rows: (sum(lengths), ...) to (n, ...); the sum of an empty run is zero.

    The sum of a run does not depend on the other runs, to the last bit, because its rows are added one by one
    in their order.
    """
    sums = np.zeros((len(lengths), *rows.shape[1:]), dtype=rows.dtype)
    filled = lengths > 0  # reduceat would give an empty run the first row of the run after it
    if filled.any():
        starts = np.cumsum(lengths) - lengths
        sums[filled] = np.add.reduceat(rows, starts[filled], axis=0)
    return sums
