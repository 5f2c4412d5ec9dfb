from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet.evaluation.interleaving import Team, preference, team_draft
from embedfleet.evaluation.questions import Passage, same_passage
from support.examples import examples

RANKING = st.lists(st.integers(0, 12), unique=True, max_size=10)


@settings(max_examples=examples(400), deadline=None)
@given(RANKING, RANKING, st.integers(0, 10), st.integers(0, 10_000))
def test_a_draft_shows_each_result_once_and_its_teams_are_level(
    a: list[int], b: list[int], length: int, seed: int
) -> None:
    places = team_draft(a, b, length=length, rng=Random(seed))
    shown = [place.item for place in places]
    assert len(shown) == len(set(shown)) == min(length, len({*a, *b}))
    sizes = Counter(place.team for place in places)
    assert abs(sizes[Team.A] - sizes[Team.B]) <= 1
    # Each team's results stand in the order of its model.
    for team, ranking in ((Team.A, a), (Team.B, b)):
        picked = [place.item for place in places if place.team is team]
        assert picked == sorted(picked, key=ranking.index)
    assert places == team_draft(a, b, length=length, rng=Random(seed))


def test_either_team_is_first_as_often() -> None:
    rng = Random(1)
    first = Counter(team_draft("abc", "xyz", length=3, rng=rng)[0].team for _ in range(4_000))
    assert abs(first[Team.A] - 2_000) < 4 * 1_000**0.5


def test_equal_rankings_give_both_teams_every_place_as_often() -> None:
    rng = Random(2)
    places = Counter(
        (number, place.team)
        for _ in range(4_000)
        for number, place in enumerate(team_draft("abcde", "abcde", length=5, rng=rng))
    )
    assert all(abs(places[number, Team.A] - 2_000) < 4 * 1_000**0.5 for number in range(5))


def test_a_passage_that_both_spaces_have_with_other_borders_is_shown_once() -> None:
    a = [Passage("book", 0, 500), Passage("book", 500, 1_000)]
    b = [Passage("book", 20, 480), Passage("other", 0, 100)]
    places = team_draft(a, b, length=4, rng=Random(0), same=same_passage)
    assert len(places) == 3


def test_what_follows_the_end_of_a_ranking_earns_nothing() -> None:
    places = team_draft(["a1"], ["b1", "b2", "b3", "b4"], length=5, rng=Random(3))
    assert [place.team for place in places[2:]].count(None) >= 2
    assert len(places) == 5
    teams = [place.team for place in places]
    assert preference(teams, [number for number, team in enumerate(teams) if team is None]) == 0.0
    assert [place.team for place in team_draft([], ["b1"], length=5, rng=Random(3))] == [None]


def test_the_team_with_more_clicks_is_preferred() -> None:
    teams = [Team.A, Team.B, Team.B, None]
    assert preference(teams, [1]) == 1.0
    assert preference(teams, [0, 3]) == -1.0
    assert preference(teams, [0, 1]) == preference(teams, []) == 0.0
    assert preference(teams, [0, 0, 0, 1, 2]) == 1.0
    assert preference(teams, [0, -1, 7]) == -1.0
