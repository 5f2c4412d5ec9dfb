"""Maps from the space of one model into that of another, fitted on vectors of the same texts by both.

They are those of Drift-Adapter (arXiv 2509.23471) in closed form: orthogonal Procrustes, and an affine map of
low rank, by least squares in place of the paper's descent; an affine map of full rank too. In place of its
residual perceptron, which takes a hundred times as long to fit, the affine map gets the outputs of a hidden
layer that is drawn by chance and not trained: it tells whether a map that is not linear does better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
Map: TypeAlias = Callable[[Vectors], Vectors]
"""From float32 (n, dim of the new model) to float32 (n, dim of the old one), of length 1."""

Fit: TypeAlias = Callable[[Vectors, Vectors], Map]
"""Takes the new model's vectors of some texts, and the old model's of the same texts."""

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths to choose from, as multiples of the mean variance of a direction."""
HELD_OUT = 0.1
"""Share of the pairs that chooses the strength."""
RANK = 64
HIDDEN = 512


def unit(vectors: Vectors) -> Vectors:
    """Return the vectors with length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    made: Vectors = (vectors / np.maximum(lengths, np.float32(1e-9))).astype(np.float32)
    return made


def fit_nothing(new: Vectors, old: Vectors) -> Map:
    """Return the map that changes no vector. Raises ValueError if the spaces differ in size."""
    if new.shape[1] != old.shape[1]:
        raise ValueError(f"vectors of {new.shape[1]} and {old.shape[1]} dimensions cannot be compared")
    return unit


def fit_procrustes(new: Vectors, old: Vectors) -> Map:
    """Return the rotation, or its part if the spaces differ in size, that brings the pairs nearest."""
    left, _, right = np.linalg.svd(new.T @ old, full_matrices=False)
    rotation = left @ right
    return lambda vectors: unit(vectors @ rotation)


def fit_affine(new: Vectors, old: Vectors) -> Map:
    """Return the affine map by ridge regression. A tenth of the pairs chooses its strength."""
    return _affine(new, old, rank=None)


def fit_low_rank(new: Vectors, old: Vectors) -> Map:
    """Return `fit_affine`'s map in the `RANK` directions in which its answers vary most."""
    return _affine(new, old, rank=RANK)


def fit_hidden(new: Vectors, old: Vectors) -> Map:
    """Return the affine map of the vectors and of `HIDDEN` rectified units of them, drawn by chance."""
    drawn = np.random.default_rng(0).standard_normal((new.shape[1], HIDDEN), dtype=np.float32)

    def widened(vectors: Vectors) -> Vectors:
        return np.concatenate([vectors, np.maximum(vectors @ drawn, 0)], axis=1)

    fitted = _affine(widened(new), old, rank=None)
    return lambda vectors: fitted(widened(vectors))


def _affine(new: Vectors, old: Vectors, *, rank: int | None) -> Map:
    order = np.random.default_rng(0).permutation(len(new))
    kept, tried = np.split(order, [round(len(new) * (1 - HELD_OUT))])
    some = _Ridge(new[kept], old[kept])
    scores = [np.mean(np.sum(some.map(ridge, rank)(new[tried]) * old[tried], axis=1)) for ridge in RIDGES]
    return _Ridge(new, old).map(RIDGES[int(np.argmax(scores))], rank)


class _Ridge:
    """Ridge regression of the pairs, for any strength."""

    def __init__(self, new: Vectors, old: Vectors) -> None:
        self._from, self._to = new.mean(axis=0), old.mean(axis=0)
        centred = (new - self._from).astype(np.float64)
        self._variances, self._directions = np.linalg.eigh(centred.T @ centred)
        self._crossed = self._directions.T @ (centred.T @ (old - self._to))

    def map(self, ridge: float, rank: int | None) -> Map:
        """Return the map of this strength, a multiple of the mean variance of a direction."""
        strength = ridge * self._variances.mean()
        weights = self._directions @ (self._crossed / (self._variances + strength)[:, None])
        if rank is not None:
            # The answers' own directions: `weights` of the pairs, decomposed by their covariance.
            scaled = np.sqrt(np.maximum(self._variances, 0))[:, None] * (self._directions.T @ weights)
            first = np.linalg.svd(scaled, full_matrices=False)[2][:rank]
            weights = weights @ first.T @ first
        matrix = weights.astype(np.float32)
        return lambda vectors: unit((vectors - self._from) @ matrix + self._to)
