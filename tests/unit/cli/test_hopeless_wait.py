"""A command ends with a trouble that does not pass by itself."""

from __future__ import annotations

from embedfleet.cli.hopeless_wait import LONGEST_SECONDS, HopelessWait
from embedfleet.errors import Remedy, StorageFull, VectorStoreUnavailable

AWAY = VectorStoreUnavailable("no answer")
DAMAGED = VectorStoreUnavailable("cannot be read", remedy=Remedy.REBUILD_VECTORS)


def test_a_full_disk_ends_it_at_once() -> None:
    full = StorageFull("no space left")
    assert HopelessWait().error(full, 0.0) is full


def test_what_may_pass_is_waited_for() -> None:
    wait = HopelessWait()
    assert [wait.error(trouble, at) for at, trouble in ((0.0, AWAY), (1e6, AWAY), (2e6, None))] == [None] * 3


def test_what_the_user_has_to_end_ends_it_after_a_while() -> None:
    wait = HopelessWait()
    assert wait.error(DAMAGED, 100.0) is None
    assert wait.error(DAMAGED, 100.0 + LONGEST_SECONDS - 0.1) is None
    assert wait.error(DAMAGED, 100.0 + LONGEST_SECONDS) is DAMAGED


def test_a_damage_that_the_next_try_does_not_meet_is_forgotten() -> None:
    wait = HopelessWait()
    assert wait.error(DAMAGED, 0.0) is None
    assert wait.error(None, 1.0) is None
    assert wait.error(DAMAGED, LONGEST_SECONDS) is None
