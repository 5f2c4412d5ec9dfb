"""Makes one list of the hits of several spaces, whose scores do not compare with each other.

A model's cosines have a range of their own: 0.5 may be a strong hit in one space, and what any two texts have
in another. So each space has a background: the cosines of questions with passages that do not belong to them.
A hit counts by how rare its score is there. That does not depend on how many passages the space has, so the
best hit of a small space is not strong because it is the best.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log10

import numpy as np
from numpy.typing import NDArray

# The tail is 5% of the pairs; of few pairs it is a larger share, so that this many values tell its scale.
_TAIL_SHARE = 0.05
_LEAST_IN_TAIL = 20
_STEPS = 40
# If all values of the tail are equal, scores beyond it still get an order. Cosines are rounded to 1e-6.
_LEAST_SCALE = 1e-3
LEAST_PAIRS = 20
"""With fewer pairs, nothing can be said of a space."""


@dataclass(frozen=True, slots=True)
class Background:
    """What cosines of random pairs are like in a space.

    `quantiles` are the cosines at evenly spaced shares of the pairs, from the least one to where the tail
    begins, which has `tail_share` of the pairs. There, shares fall exponentially: `tail_scale` is how far the
    tail's cosines are from its beginning, in the mean.
    """

    quantiles: tuple[float, ...]
    tail_share: float
    tail_scale: float
    pairs: int

    @classmethod
    def of(cls, cosines: NDArray[np.float32]) -> Background:
        """Return the background of these cosines (n,). They are at least `LEAST_PAIRS`."""
        if len(cosines) < LEAST_PAIRS:
            raise ValueError(f"a background needs {LEAST_PAIRS} pairs, not {len(cosines)}")
        values = np.sort(cosines.astype(np.float64))
        tail_share = max(_TAIL_SHARE, min(0.5, _LEAST_IN_TAIL / len(values)))
        quantiles = np.quantile(values, np.linspace(0, 1 - tail_share, _STEPS + 1))
        beyond = values[values > quantiles[-1]] - quantiles[-1]
        scale = max(float(beyond.mean()) if len(beyond) else 0.0, _LEAST_SCALE)
        rounded = tuple(round(float(one), 6) for one in quantiles)
        return cls(rounded, tail_share, round(scale, 6), len(values))

    def calibrated(self, score: float) -> float:
        """Return how rare a score is: 2 if one random pair in 100 has it or more, 3 if one in 1,000.

        It is the negative logarithm (base 10) of that share, and grows with the score.
        """
        beyond = score - self.quantiles[-1]
        if beyond > 0:
            return -log10(self.tail_share) + beyond / (self.tail_scale * log(10))
        shares = np.linspace(0, 1 - self.tail_share, len(self.quantiles))
        return max(0.0, -log10(1 - float(np.interp(score, self.quantiles, shares))))

    def to_json(self) -> str:
        """Return what `of_json` reads."""
        return json.dumps(
            {
                "quantiles": self.quantiles,
                "tail_share": self.tail_share,
                "tail_scale": self.tail_scale,
                "pairs": self.pairs,
            }
        )

    @classmethod
    def of_json(cls, written: str) -> Background:
        """Return the background that `to_json` wrote."""
        values = json.loads(written)
        return cls(
            tuple(values["quantiles"]), values["tail_share"], values["tail_scale"], int(values["pairs"])
        )


@dataclass(frozen=True, slots=True)
class Fused:
    """A hit of the fused list: in which list it was, at which place there, and how rare its score is."""

    list_number: int
    place: int
    calibrated: float


def fused(scores: Sequence[Sequence[float]], backgrounds: Sequence[Background], *, most: int) -> list[Fused]:
    """Return the hits with the rarest scores, the rarest first.

    `scores` has the cosines of each list, highest first; `backgrounds` has one for each list. Hits of a list
    keep their order. Of hits with equal values, those of an earlier list come first.
    """
    hits = [
        Fused(number, place, background.calibrated(score))
        for number, (of_list, background) in enumerate(zip(scores, backgrounds, strict=True))
        for place, score in enumerate(of_list)
    ]
    return sorted(hits, key=lambda hit: (-hit.calibrated, hit.list_number, hit.place))[:most]
