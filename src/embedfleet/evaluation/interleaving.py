"""Merges the answers of two models into one list, and tells from clicks whose results people prefer.

Team-draft interleaving (Radlinski, Kurup and Joachims 2008, "How does clickthrough data reflect retrieval
quality?"): the models pick results in turn like captains pick players. In each round a coin says who picks
first, so both teams have the same chance at every place, and a click on a result is credit for its team.
Someone who clicks without looking at what a result says prefers neither team.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Team(StrEnum):
    """Whose result it is. The values are stable: they are stored with the impression."""

    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True)
class Place(Generic[Item]):
    """A place of an interleaved list. `team` is None for a result that only fills up the list."""

    item: Item
    team: Team | None


def team_draft(
    a: Sequence[Item],
    b: Sequence[Item],
    *,
    length: int,
    rng: Random,
    same: Callable[[Item, Item], bool] = operator.eq,
) -> list[Place[Item]]:
    """Interleave two rankings into at most `length` places. The same state of `rng` gives the same list.

    A result that stands in both rankings, by `same`, is shown once. It is of the team that picks it first,
    and the other team picks its next one. Once a ranking has no more to pick from, what follows has no team:
    the longer ranking would earn clicks just for its length.
    """
    places: list[Place[Item]] = []
    size = {Team.A: 0, Team.B: 0}
    while len(places) < length:
        shown = [place.item for place in places]
        next_of = {Team.A: _next(a, shown, same), Team.B: _next(b, shown, same)}
        if not next_of[Team.A] or not next_of[Team.B]:
            break
        team = _picks(size, rng)
        size[team] += 1
        places.append(Place(next_of[team][0], team))
    for item in (*a, *b):
        if len(places) >= length:
            break
        if not any(same(item, place.item) for place in places):
            places.append(Place(item, None))
    return places


def _next(ranking: Sequence[Item], shown: Sequence[Item], same: Callable[[Item, Item], bool]) -> list[Item]:
    """Return the first result that is not shown yet, in a list; an empty list if there is none."""
    return next(([item] for item in ranking if not any(same(item, one) for one in shown)), [])


def _picks(size: dict[Team, int], rng: Random) -> Team:
    """Return the team that picks: the smaller one, and by a coin at the start of a round."""
    if size[Team.A] == size[Team.B]:
        return rng.choice((Team.A, Team.B))
    return min(size, key=lambda team: size[team])


def preference(teams: Sequence[Team | None], clicked: Iterable[int]) -> float:
    """Return what an impression says: 1 for B, -1 for A, 0 for neither.

    `teams` are those of its places, `clicked` the places with a click, from 0; a repeated click counts once,
    and a place outside of the list does not count. The team with more clicks is preferred.
    """
    credit = {Team.A: 0, Team.B: 0}
    for place in set(clicked):
        team = teams[place] if 0 <= place < len(teams) else None
        if team is not None:
            credit[team] += 1
    return float((credit[Team.B] > credit[Team.A]) - (credit[Team.B] < credit[Team.A]))
