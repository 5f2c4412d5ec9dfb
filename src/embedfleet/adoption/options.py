"""What a caller of an adoption decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embedfleet.vectors.checksums import SAME_COSINE


@dataclass(frozen=True, slots=True)
class AdoptOptions:
    """What is taken, and when a vector counts as right.

    `collections`: only these; none: all that the layout knows. `models` has configured models by what the
    source calls them, "" for every other one. `sample` is how many rows of a group are compared, and at
    `least_cosine` two vectors count as the same. `embed_wrong`: documents of a group whose vectors are not
    those of its model are embedded again, and not refused. `leave_deleted`: documents that were deleted
    here are left out, though the source still has them.
    """

    collections: Sequence[str] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    sample: int = 100
    least_cosine: float = SAME_COSINE
    embed_wrong: bool = False
    leave_deleted: bool = False
