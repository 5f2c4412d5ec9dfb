"""Compares what two paths have stored of one document. It is pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedfleet.traffic.paths import IngestResult, StoredChunk
from embedfleet.traffic.shadow_schemas import DifferenceKind

# The ids of another system cannot be compared with ours (`records.identity.ChunkIds`).
_OUR_ID = re.compile(r"[0-9a-f]{32}")


Details = Mapping[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """In what two answers differ. `details` are ids and numbers of the first place, and no text."""

    kind: DifferenceKind
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two answers, at most one of each kind.

    `ids` and `vectors` count the chunks whose ids and whose vectors could be compared.
    """

    differences: Sequence[Difference]
    ids: int = 0
    vectors: int = 0


def compare(old: IngestResult, new: Sequence[StoredChunk], *, min_cosine: float) -> Comparison:
    """Compare the chunks of the fleet with those of the old path.

    What the old path does not tell is not compared: chunks, vectors, or ids in the form of the fleet. Chunks
    are paired by their order if there are as many on both sides, otherwise by their places.
    """
    found: list[Difference | None] = []
    if old.chunks != len(new):
        found.append(Difference(DifferenceKind.CHUNK_COUNT, {"old": old.chunks, "new": len(new)}))
    if old.stored is None:
        return Comparison([one for one in found if one is not None])
    if len(old.stored) == len(new):
        pairs = list(zip(old.stored, new, strict=True))
        with_our_id = [pair for pair in pairs if _OUR_ID.fullmatch(pair[0].chunk_id)]
        found += [_places(pairs), _ids(with_our_id)]
    else:
        at = {(chunk.start, chunk.end): chunk for chunk in new}
        pairs = [(one, at[one.start, one.end]) for one in old.stored if (one.start, one.end) in at]
        with_our_id = []
    found.append(_vectors(pairs, min_cosine))
    return Comparison(
        [one for one in found if one is not None],
        ids=len(with_our_id),
        vectors=sum(one.vector is not None for one, _ in pairs),
    )


_Pairs = Sequence[tuple[StoredChunk, StoredChunk]]


def _places(pairs: _Pairs) -> Difference | None:
    for index, (old, new) in enumerate(pairs):
        if (old.start, old.end) != (new.start, new.end):
            details: Details = {
                "chunk_index": index,
                "old_start": old.start,
                "old_end": old.end,
                "new_start": new.start,
                "new_end": new.end,
            }
            return Difference(DifferenceKind.PLACES, details)
    return None


def _ids(pairs: _Pairs) -> Difference | None:
    for old, new in pairs:
        if old.chunk_id != new.chunk_id:
            return Difference(DifferenceKind.CHUNK_IDS, {"old": old.chunk_id, "new": new.chunk_id})
    return None


def _vectors(pairs: _Pairs, min_cosine: float) -> Difference | None:
    """Return the pair with the lowest cosine, if that is too low; a chunk without a vector has 0."""
    lowest: tuple[float, StoredChunk] | None = None
    for old, new in pairs:
        if old.vector is None:
            continue
        if new.vector is not None and len(old.vector) != len(new.vector):
            sizes = {"old": len(old.vector), "new": len(new.vector)}
            return Difference(DifferenceKind.DIMENSION, sizes)
        cosine = 0.0 if new.vector is None else _cosine(old.vector, new.vector)
        if cosine < min_cosine and (lowest is None or cosine < lowest[0]):
            lowest = (cosine, new)
    if lowest is None:
        return None
    cosine, chunk = lowest
    return Difference(DifferenceKind.COSINE, {"chunk": chunk.chunk_id, "cosine": round(cosine, 6)})


def _cosine(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return the cosine, in float64: a float32 has too few digits for 0.99999.

    A vector that is zero or not finite has no cosine. It gets 0, so that it is found to differ.
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths and math.isfinite(lengths) else 0.0
