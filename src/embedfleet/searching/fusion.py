"""Makes one list of the hits that a search found in several spaces of a tenant. It is pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedfleet.queue_schemas import PassageCopy, SearchHit
from embedfleet.routing.fusion import Background, fused


@dataclass(frozen=True, slots=True)
class HitsOfSpace:
    """The hits of one space, nearest first. `background` says what cosines of random pairs are like in it."""

    model: str
    hits: Sequence[SearchHit]
    background: Background


def fused_hits(spaces: Sequence[HitsOfSpace], *, most: int) -> list[SearchHit]:
    """Return the `most` hits with the rarest scores, the rarest first. Each has the model of its space.

    A text that several spaces have is one hit, as it is in one space.
    """
    found: dict[str, SearchHit] = {}
    scores = [[hit.score for hit in space.hits] for space in spaces]
    for one in fused(scores, [space.background for space in spaces], most=sum(map(len, scores))):
        space = spaces[one.list_number]
        hit = space.hits[one.place]
        first = found.get(hit.text)
        if first is not None:
            copies = (*first.copies, _copy(hit), *hit.copies)
            found[hit.text] = first.model_copy(update={"copies": copies})
        elif len(found) < most:
            told = {"model": space.model, "calibrated": round(one.calibrated, 4)}
            found[hit.text] = hit.model_copy(update=told)
    return list(found.values())


def _copy(hit: SearchHit) -> PassageCopy:
    return PassageCopy(**{name: getattr(hit, name) for name in PassageCopy.model_fields})
