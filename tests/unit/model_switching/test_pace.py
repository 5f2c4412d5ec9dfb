"""The share of a backfill beside searches, in virtual time: it falls, recovers, and is never 0."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from embedfleet.metrics.search_times import SearchTime
from embedfleet.model_switching.pace import LEAST_SHARE, SearchPace

LIMIT = 1.5
ALONE = 0.02
"""What a search takes at most without a backfill."""


class Host:
    """A host with a clock of its own. A turn slows its searches by a factor that depends on the share."""

    def __init__(self, pace: SearchPace, slowdown: Callable[[float], float], seed: int = 1) -> None:
        self.pace = pace
        self.now = 1000.0
        self.slowdown = slowdown
        self.load = 1.0
        self.all: list[float] = []
        self._random = random.Random(seed)

    def search(self, share: float | None = None) -> None:
        """One search ends, beside a turn of this share."""
        factor = 1.0 if share is None else self.slowdown(share)
        seconds = ALONE * self._random.uniform(0.5, 1.0) * self.load * factor
        began, self.now = self.now, self.now + seconds
        self.pace.hear([SearchTime(began, self.now)])
        self.now += 0.01
        self.all.append(seconds)

    def rounds(self, count: int) -> list[float]:
        """Turns and rests, with five searches beside a turn and five in the rest after it."""
        return self.turns(count, in_a_rest=5)

    def turns(self, count: int, *, in_a_rest: int = 0) -> list[float]:
        """Turns with five searches beside each, and some in the rest after it. Returns their shares."""
        shares = []
        for _ in range(count):
            share = self.pace.share(self.now)
            assert share is not None
            shares.append(share)
            self.pace.turn_begins(self.now)
            for _ in range(5):
                self.search(share)
            self.pace.turn_ends(self.now)
            for _ in range(in_a_rest):
                self.search()
        return shares


def host(slowdown: Callable[[float], float], *, seed: int = 1) -> Host:
    made = Host(SearchPace(LIMIT), slowdown, seed)
    for _ in range(100):
        made.search()
    return made


@pytest.mark.parametrize("seed", range(5))
def test_the_share_comes_to_rest_where_searches_stay_within_the_limit(seed: int) -> None:
    busy = host(lambda share: 1 + 2 * share, seed=seed)
    shares = busy.rounds(300)[-100:]
    assert 0.1 < sum(shares) / len(shares) < 0.3
    late, before = sorted(busy.all[-1000:]), sorted(busy.all[:100])
    assert late[950] < LIMIT * before[95]


def test_a_host_that_is_slow_for_another_reason_does_not_slow_the_backfill() -> None:
    busy = host(lambda share: 1.0)
    busy.load = 10.0
    assert busy.rounds(300)[-1] == 1.0


def test_it_is_never_0_and_recovers() -> None:
    busy = host(lambda share: 10.0)
    assert busy.rounds(200)[-1] == LEAST_SHARE > 0
    busy.slowdown = lambda share: 1.0
    assert busy.rounds(300)[-1] == 1.0


def test_what_searches_took_long_ago_does_not_count() -> None:
    """They were slow for another reason. At a high share, no search falls into the short rests."""
    busy = host(lambda share: 1 + 2 * share)
    busy.load = 10.0
    for _ in range(400):
        busy.search()
    busy.load = 1.0
    assert busy.turns(300)[-1] == LEAST_SHARE, "rests become longer until it is known"
    assert 0.1 < sum(busy.rounds(300)[-100:]) / 100 < 0.3


def test_a_process_that_starts_in_a_backfill_rests_longer_until_a_search_meets_none() -> None:
    busy = Host(SearchPace(LIMIT), lambda share: 1 + 2 * share)
    busy.search(1.0)
    first, *_, last = busy.turns(100)
    assert last == LEAST_SHARE < first


def test_without_searches_for_a_while_there_is_no_limit_and_then_the_share_is_as_before() -> None:
    busy = host(lambda share: 10.0)
    share = busy.rounds(200)[-1]
    assert busy.pace.share(busy.now + 1.0) == share
    assert busy.pace.share(busy.now + 60.0) is None
    busy.now += 60.0
    busy.search()
    assert busy.pace.share(busy.now) == share


def test_a_limit_of_0_is_none() -> None:
    pace = SearchPace(0.0)
    pace.hear([SearchTime(1.0, 2.0)])
    assert pace.share(2.0) is None


def test_a_search_that_began_before_a_turn_and_ended_in_it_met_it() -> None:
    pace = SearchPace(LIMIT)
    pace.turn_begins(10.0)
    pace.turn_ends(20.0)
    # Beside the turn all are slow, and after it all are quick: so the slow ones do not count as alone.
    pace.hear([SearchTime(9.9, 10.1)] * 20 + [SearchTime(19.9, 20.1)] * 20)
    pace.hear([SearchTime(20.0 + n, 20.001 + n) for n in range(40)])
    assert pace.slowdown is not None
    assert pace.slowdown > 100
