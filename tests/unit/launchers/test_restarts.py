"""Crashed workers come back later and later, and a loop is called one."""

from __future__ import annotations

from embedfleet.launchers.restarts import CrashRecord, RestartPolicy

POLICY = RestartPolicy(base_seconds=1, cap_seconds=60, crash_loop_after=5, healthy_seconds=60)


def crashes(n: int, lived_seconds: float = 0.1) -> CrashRecord:
    record = CrashRecord()
    for _ in range(n):
        record = record.after_crash(POLICY, lived_seconds=lived_seconds)
    return record


def test_the_pause_doubles_with_each_crash_up_to_the_cap() -> None:
    assert [crashes(n).delay_seconds(POLICY) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert crashes(10_000).delay_seconds(POLICY) == 60


def test_the_fifth_crash_in_a_row_is_a_loop() -> None:
    assert [crashes(n).is_loop(POLICY) for n in (0, 4, 5, 6)] == [False, False, True, True]


def test_a_worker_that_lived_long_enough_has_its_crashes_forgiven() -> None:
    again = crashes(7).after_crash(POLICY, lived_seconds=60)
    assert (again.in_a_row, again.delay_seconds(POLICY)) == (1, 1)
    assert crashes(7).after_crash(POLICY, lived_seconds=59.9).in_a_row == 8
