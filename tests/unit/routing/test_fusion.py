"""Scores of several spaces in one list: rare hits first, whatever the size of the space and its scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet.routing.fusion import LEAST_PAIRS, Background, Fused, fused
from support.examples import examples


def background(seed: int, *, mean: float = 0.1, spread: float = 0.1, pairs: int = 4_000) -> Background:
    random = np.random.default_rng(seed)
    return Background.of(random.normal(mean, spread, pairs).astype(np.float32))


spaces = st.builds(
    background,
    st.integers(0, 50),
    mean=st.floats(-0.3, 0.8),
    spread=st.floats(0.01, 0.3),
    pairs=st.sampled_from([LEAST_PAIRS, 100, 1_000, 5_000]),
)


@given(space=spaces, one=st.floats(-1, 1), other=st.floats(-1, 1))
@settings(max_examples=examples(300))
def test_a_higher_score_is_never_less_rare_and_beyond_the_sample_it_is_rarer(
    space: Background, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert 0 <= space.calibrated(low) <= space.calibrated(high)
    if low > space.quantiles[-1] and high - low > 1e-6:
        assert space.calibrated(low) < space.calibrated(high)


@given(
    large=spaces,
    small=spaces,
    strong=st.floats(3.2, 6),
    weak=st.lists(st.floats(0, 1.2), min_size=1, max_size=5),
)
@settings(max_examples=examples(300))
def test_a_weak_hit_of_a_small_space_never_beats_a_strong_one_of_a_large_space(
    large: Background, small: Background, strong: float, weak: list[float]
) -> None:
    """No document is in both lists, so ranks would put the best hit of the small space beside the best."""
    of_large = [score_of(large, strong - step / 10) for step in range(10)]
    of_small = sorted((score_of(small, one) for one in weak), reverse=True)
    found = fused([of_small, of_large], [small, large], most=20)
    assert [hit.list_number for hit in found[:10]] == [1] * 10
    assert [hit.place for hit in found[:10]] == list(range(10))


def score_of(space: Background, rare: float) -> float:
    """The score that is as rare as this, by bisection: `calibrated` grows with the score."""
    low, high = -2.0, 1_000.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if space.calibrated(middle) >= rare else (middle, high)
    return high


@given(space=spaces, shift=st.floats(-0.5, 0.5), factor=st.floats(0.2, 3), score=st.floats(-1, 1))
@settings(max_examples=examples(200))
def test_how_rare_a_score_is_does_not_depend_on_the_range_of_a_models_scores(
    space: Background, shift: float, factor: float, score: float
) -> None:
    moved = Background(
        tuple(one * factor + shift for one in space.quantiles),
        space.tail_share,
        space.tail_scale * factor,
        space.pairs,
    )
    assert moved.calibrated(score * factor + shift) == pytest.approx(space.calibrated(score), abs=1e-6)


def test_it_is_the_share_of_random_pairs_that_are_as_near() -> None:
    random = np.random.default_rng(1)
    space = Background.of(random.uniform(0, 1, 100_000).astype(np.float32))
    assert space.calibrated(0.5) == pytest.approx(np.log10(2), abs=0.01)
    assert space.calibrated(0.9) == pytest.approx(1, abs=0.02)
    assert space.calibrated(-1) == 0
    normal = Background.of(random.normal(0, 0.1, 100_000).astype(np.float32))
    assert normal.calibrated(0.309) == pytest.approx(3, abs=0.35)  # one in 1,000, beyond the quantiles


def test_few_pairs_and_equal_ones_are_enough_for_an_order() -> None:
    same = Background.of(np.full(LEAST_PAIRS, 0.3, dtype=np.float32))
    assert same.calibrated(0.31) < same.calibrated(0.32)
    with pytest.raises(ValueError, match="needs 20 pairs, not 19"):
        Background.of(np.zeros(LEAST_PAIRS - 1, dtype=np.float32))


def test_the_fused_list_has_the_rarest_hits_and_keeps_the_order_of_each_list() -> None:
    near, far = background(1, mean=0.5), background(2, mean=0.0)
    found = fused([[0.9, 0.6], [0.6, 0.1], []], [near, far, near], most=3)
    assert [(hit.list_number, hit.place) for hit in found] == [(1, 0), (0, 0), (0, 1)]
    assert found[0] == Fused(1, 0, far.calibrated(0.6))
    assert fused([[0.2], [0.2]], [near, near], most=1)[0].list_number == 0


def test_a_background_is_written_and_read() -> None:
    made = background(3)
    assert Background.of_json(made.to_json()) == made
