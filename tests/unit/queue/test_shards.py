"""Where tasks belong, and what becomes of a layout when the number of shards changes."""

from __future__ import annotations

from collections import Counter

import pytest

from embedfleet.errors import BrokerUnavailable
from embedfleet.queue.shards import KnownLayout, Layout

IDS = [f"job_01a2284c56247e986048a3532b0e2b6f:1:{number}" for number in range(8_000)]


@pytest.mark.parametrize("shards", [2, 3, 4, 16, 64])
def test_ids_that_differ_in_their_number_only_are_spread_evenly(shards: int) -> None:
    of_shard = Counter(Layout(shards=shards).home(task_id) for task_id in IDS)
    even = len(IDS) / shards
    assert len(of_shard) == shards
    assert max(of_shard.values()) < even * 1.35
    assert min(of_shard.values()) > even * 0.65


def test_one_shard_has_everything() -> None:
    assert {Layout().home(task_id) for task_id in IDS} == {0}


def test_a_layout_remembers_every_earlier_number_until_it_is_settled() -> None:
    layout = Layout().changed(4, version=10).changed(16, version=3)
    assert layout == Layout(version=11, shards=16, widest=16, before=(1, 4))
    lower = layout.changed(4, version=0)
    assert lower == Layout(version=12, shards=4, widest=16, before=(1, 16))
    assert (lower.in_use, lower.settled().in_use) == (16, 4)
    assert lower.settled() == Layout(version=12, shards=4, widest=16)


def test_a_task_may_be_a_stray_only_in_shards_that_were_its_home_and_are_not() -> None:
    layout = Layout().changed(4, version=1)
    for task_id in IDS[:100]:
        assert layout.earlier_homes(task_id) == {0} - {layout.home(task_id)}


def test_the_newest_layout_is_kept_whatever_is_heard_later() -> None:
    known = KnownLayout()
    new = Layout().changed(4, version=5)
    for heard in ("", new.encode(), new.settled().encode(), new.encode(), ""):
        known.hear(heard)
    assert known.now == new.settled()


def test_a_layout_of_a_later_release_is_refused_with_what_to_do() -> None:
    with pytest.raises(BrokerUnavailable, match="upgrade this host"):
        KnownLayout().hear("7 by-tenant")
