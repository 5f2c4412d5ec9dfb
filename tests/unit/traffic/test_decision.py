"""Which path a request goes: sticky, monotone, the same everywhere, and overruled by lists."""

from __future__ import annotations

import subprocess
import sys
from functools import reduce
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.traffic.decision import BUCKETS, Reach, bucket, decide
from embedfleet.traffic.paths import Path
from embedfleet.traffic.state import NOTHING_MOVED, TrafficState

NAMES = st.text(max_size=12)
PERCENTS = st.floats(0, 100)
STATES = st.builds(
    TrafficState,
    percent=PERCENTS,
    sticky_by=st.sampled_from(["tenant", "document"]),
    allow_tenants=st.frozensets(st.sampled_from("abc")),
    deny_tenants=st.frozensets(st.sampled_from("abc")),
    allow_content_types=st.frozensets(st.sampled_from(["text", "code"])),
    deny_content_types=st.frozensets(st.sampled_from(["text", "code"])),
)
TENANTS = [f"tenant-{number}" for number in range(2_000)]


def moved(percent: float, sticky_by: str = "tenant") -> set[str]:
    state = TrafficState.model_validate({"percent": percent, "sticky_by": sticky_by})
    return {name for name in TENANTS if decide(state, name, "1", "text") is Path.ASYNC}


def test_before_the_first_change_every_request_goes_the_old_way() -> None:
    assert decide(NOTHING_MOVED, "a", "1", "text") is Path.SYNC
    assert moved(0) == set()


def test_at_100_percent_every_request_goes_the_new_way() -> None:
    assert moved(100) == set(TENANTS)


def test_the_buckets_never_change() -> None:
    """Other buckets would move documents between the paths when a process is upgraded."""
    assert [bucket("a"), bucket("a", "b"), bucket(""), bucket("tenant-1", "42")] == [3406, 7904, 1544, 2426]


def test_another_process_decides_the_same() -> None:
    script = "from embedfleet.traffic.decision import bucket; print(bucket('é', 'x'), bucket('\\ud800'))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert found.stdout.split() == [str(bucket("é", "x")), str(bucket("\ud800"))]


def test_the_share_that_moves_is_the_percentage() -> None:
    # 5 standard deviations of a binomial of 2,000 trials at 25% are 97.
    assert abs(len(moved(25)) - 500) < 97
    assert abs(len(moved(25, "document")) - 500) < 97


@given(PERCENTS, PERCENTS, NAMES, NAMES, st.sampled_from(["tenant", "document"]))
def test_a_higher_percentage_moves_none_back(
    one: float, other: float, tenant: str, media_id: str, sticky_by: str
) -> None:
    lower, higher = (
        TrafficState.model_validate({"percent": percent, "sticky_by": sticky_by})
        for percent in sorted([one, other])
    )
    if decide(lower, tenant, media_id, "text") is Path.ASYNC:
        assert decide(higher, tenant, media_id, "text") is Path.ASYNC


@given(PERCENTS, NAMES, NAMES, NAMES)
def test_sticky_by_tenant_keeps_the_documents_of_a_tenant_together(
    percent: float, tenant: str, one: str, other: str
) -> None:
    state = TrafficState(percent=percent)
    assert decide(state, tenant, one, "text") is decide(state, tenant, other, "text")


@given(NAMES, NAMES, NAMES, NAMES)
def test_names_of_tenant_and_document_do_not_run_into_each_other(a: str, b: str, c: str, d: str) -> None:
    """The same characters divided in another way are another document."""
    bucket.cache_clear()
    if bucket(a, b) != bucket(c, d):
        assert (a, b) != (c, d)
    assert bucket("ab", "c") != bucket("a", "bc")


def test_two_decimals_of_the_percentage_count_exactly() -> None:
    """Each of these times 100 is a little less as a float: the last bucket would be left out."""
    for hundredths in (29, 57, 58, 115, 5_799):
        last = next(name for number in count() if bucket(name := str(number)) == hundredths - 1)
        assert decide(TrafficState(percent=hundredths / 100), last, "1", "text") is Path.ASYNC
        below = TrafficState(percent=(hundredths - 1) / 100)
        assert decide(below, last, "1", "text") is Path.SYNC
    assert BUCKETS == 10_000


@pytest.mark.parametrize(
    ("lists", "path"),
    [
        ({"percent": 100, "deny_tenants": {"a"}}, Path.SYNC),
        ({"percent": 100, "deny_content_types": {"code"}}, Path.SYNC),
        ({"allow_tenants": {"a"}}, Path.ASYNC),
        ({"allow_content_types": {"code"}}, Path.ASYNC),
        ({"allow_tenants": {"a"}, "deny_tenants": {"a"}}, Path.SYNC),
        ({"allow_tenants": {"a"}, "deny_content_types": {"code"}}, Path.SYNC),
        ({"allow_tenants": {"b"}, "allow_content_types": {"text"}}, Path.SYNC),
    ],
)
def test_a_denial_is_stronger_than_an_allowance_than_the_percentage(
    lists: dict[str, object], path: Path
) -> None:
    assert decide(TrafficState.model_validate(lists), "a", "1", "code") is path


@given(st.lists(STATES, max_size=4), st.sampled_from("abcd"), NAMES, st.sampled_from(["text", "code"]))
def test_what_ever_went_to_the_fleet_is_within_its_reach(
    states: list[TrafficState], tenant: str, media_id: str, content_type: str
) -> None:
    if any(decide(state, tenant, media_id, content_type) is Path.ASYNC for state in states):
        assert reduce(Reach.with_state, states, Reach()).includes(tenant, media_id)


def test_what_never_went_to_the_fleet_is_outside_its_reach() -> None:
    reach = Reach().with_state(TrafficState(percent=5)).with_state(NOTHING_MOVED)
    assert {name for name in TENANTS if reach.includes(name, "1")} == moved(5)
    assert not Reach().includes("a", "1")


def test_a_state_is_always_written_with_the_same_text() -> None:
    names = [str(number) for number in range(20)]
    one, other = (TrafficState(allow_tenants=frozenset(order)) for order in (names, reversed(names)))
    assert one.model_dump_json() == other.model_dump_json()
    assert TrafficState.model_validate_json(one.model_dump_json()) == one
