"""Whose texts go to the model next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedfleet.interactive.turns import Portion, Turns


def everyone(_: str) -> bool:
    return True


def test_a_short_text_is_in_the_next_call_however_many_long_ones_wait() -> None:
    turns: Turns[str] = Turns()
    turns.add("a", "long", [500] * 100)
    turns.add("a", "short", [10])
    turns.add("b", "of another tenant", [10])
    first = turns.take(1_000, everyone)
    assert {portion.caller for portion in first} == {"long", "short", "of another tenant"}


def test_a_tenant_with_many_callers_has_one_turn_for_each_of_another_tenant() -> None:
    turns: Turns[str] = Turns()
    for n in range(50):
        turns.add("busy", f"busy {n}", [98] * 5)
    turns.add("calm", "calm", [98] * 4)
    taken = turns.take(800, everyone)
    assert [portion.caller for portion in taken][:4] == ["busy 0", "calm", "busy 1", "calm"]


def test_a_caller_that_has_given_up_is_dropped() -> None:
    turns: Turns[str] = Turns()
    turns.add("a", "gone", [10] * 3)
    turns.add("a", "here", [10])
    assert turns.take(1_000, lambda caller: caller == "here") == [Portion("here", 0, 1)]
    assert not turns


def test_a_text_that_is_larger_than_a_call_goes_alone() -> None:
    turns: Turns[str] = Turns()
    turns.add("a", "large", [5_000, 5_000])
    assert turns.take(100, everyone) == [Portion("large", 0, 1)]
    assert turns.take(100, everyone) == [Portion("large", 1, 2)]
    assert not turns


@given(
    callers=st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 300), min_size=1, max_size=30)),
        max_size=12,
    ),
    most_tokens=st.integers(1, 2_000),
)
def test_every_text_is_taken_once_in_order_and_calls_are_bounded(
    callers: list[tuple[str, list[int]]], most_tokens: int
) -> None:
    turns: Turns[int] = Turns()
    for number, (tenant, lengths) in enumerate(callers):
        turns.add(tenant, number, lengths)
    taken: list[list[int]] = [[] for _ in callers]
    while turns:
        portions = turns.take(most_tokens, lambda _: True)
        tokens = [callers[p.caller][1][at] + 2 for p in portions for at in range(p.first, p.past)]
        assert sum(tokens) <= most_tokens or len(tokens) == 1
        for portion in portions:
            taken[portion.caller] += range(portion.first, portion.past)
    assert taken == [list(range(len(lengths))) for _, lengths in callers]
