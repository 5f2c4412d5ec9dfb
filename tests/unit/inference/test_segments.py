"""Sums over texts laid end to end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.inference.segments import sum_segments


def test_an_empty_run_sums_to_zero_wherever_it_stands() -> None:
    rows = np.array([[1, 10], [2, 20], [4, 40]], dtype=np.float32)
    sums = sum_segments(rows, np.array([0, 2, 0, 1, 0]))
    assert sums.tolist() == [[0, 0], [3, 30], [0, 0], [4, 40], [0, 0]]


def test_no_runs_make_no_rows() -> None:
    assert sum_segments(np.empty((0, 3), dtype=np.float32), np.empty(0, dtype=np.int64)).shape == (0, 3)


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_a_run_sums_to_the_same_bits_alone_and_among_others(lengths: list[int], seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(sum(lengths), 3)).astype(np.float32)
    together = sum_segments(rows, np.array(lengths))
    start = 0
    for i, length in enumerate(lengths):
        alone = sum_segments(rows[start : start + length], np.array([length]))
        assert alone.tobytes() == together[i : i + 1].tobytes()
        start += length
