"""Crashed workers come back later and later, and a loop is called one."""

from __future__ import annotations

from embedfleet.launchers.restarts import CrashCounter, RestartPolicy

POLICY = RestartPolicy(base_seconds=1, cap_seconds=60, crash_loop_after=5, healthy_seconds=60)


def pauses(n: int, crashes: CrashCounter) -> list[float]:
    return [crashes.count(lived_seconds=0.1) for _ in range(n)]


def test_the_pause_doubles_with_each_crash_up_to_the_cap() -> None:
    crashes = CrashCounter(POLICY)
    assert pauses(8, crashes) == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pauses(10_000, crashes)[-1] == 60


def test_the_fifth_crash_in_a_row_is_a_loop() -> None:
    crashes = CrashCounter(POLICY)
    assert not crashes.is_loop
    looping = []
    for _ in range(6):
        crashes.count(lived_seconds=0.1)
        looping.append(crashes.is_loop)
    assert looping == [False, False, False, False, True, True]


def test_a_worker_that_lived_long_enough_has_its_crashes_forgiven() -> None:
    crashes = CrashCounter(POLICY)
    pauses(7, crashes)
    crashes.count(lived_seconds=59.9)
    assert crashes.in_a_row == 8
    assert (crashes.count(lived_seconds=60), crashes.in_a_row) == (1, 1)


def test_a_worker_that_ended_in_good_order_forgives_the_crashes_before_it() -> None:
    crashes = CrashCounter(POLICY)
    pauses(7, crashes)
    crashes.reset()
    assert not crashes.is_loop
    assert pauses(2, crashes) == [1, 2]
