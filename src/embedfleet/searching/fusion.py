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

    A text that several spaces have is one hit, as it is in one space. A document that several spaces have has
    moved from one to another during the search: only what the one has that found its rarest hit is kept.
    """
    found: dict[str, SearchHit] = {}
    space_of: dict[str, int] = {}  # which of the spaces shows a document, by its media id
    scores = [[hit.score for hit in space.hits] for space in spaces]
    for one in fused(scores, [space.background for space in spaces], most=sum(map(len, scores))):
        number, space = one.list_number, spaces[one.list_number]
        hit = space.hits[one.place]
        first = found.get(hit.text)
        if first is None and len(found) >= most:
            continue
        if space_of.setdefault(hit.media_id, number) != number:
            continue
        copies = tuple(each for each in hit.copies if space_of.setdefault(each.media_id, number) == number)
        if first is not None:
            every = (*first.copies, _copy(hit), *copies)
            found[hit.text] = first.model_copy(update={"copies": every})
        else:
            told = {"model": space.model, "calibrated": round(one.calibrated, 4), "copies": copies}
            found[hit.text] = hit.model_copy(update=told)
    return list(found.values())


def _copy(hit: SearchHit) -> PassageCopy:
    return PassageCopy(**{name: getattr(hit, name) for name in PassageCopy.model_fields})
