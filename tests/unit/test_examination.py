"""The checks of the doctor: each has a limit, and each finding comes before the next check begins."""

from __future__ import annotations

from threading import Event

from embedfleet.cli.examination import Check, Doubt, Finding, examine
from embedfleet.errors import BrokerUnavailable, Remedy, VectorStoreUnavailable
from embedfleet.settings import Settings

SETTINGS = Settings()


def _sound(_: Settings) -> str:
    return "all is well"


def _broken(_: Settings) -> str:
    raise VectorStoreUnavailable("the index is damaged", remedy=Remedy.REBUILD_VECTORS)


def test_a_check_says_what_it_found_what_is_doubtful_and_what_is_wrong_with_the_command_that_helps() -> None:
    checks = [
        Check("sound", _sound),
        Check("doubtful", lambda _: Doubt("a worker is old")),
        Check("broken", _broken),
    ]
    assert list(examine(checks, SETTINGS)) == [
        Finding("sound", True, "all is well"),
        Finding("doubtful", True, "a worker is old", warning=True),
        Finding("broken", False, "the index is damaged (run `embedfleet rebuild`)"),
    ]


def test_a_finding_is_told_before_the_next_check_begins() -> None:
    begun: list[str] = []

    def second(_: Settings) -> str:
        begun.append("second")
        return ""

    findings = examine([Check("first", _sound), Check("second", second)], SETTINGS)
    assert next(findings).check == "first"
    assert begun == []


def test_a_service_that_never_answers_is_named_and_given_up_and_the_other_checks_are_made() -> None:
    ends = Event()

    def silent(_: Settings) -> str:
        ends.wait()
        return "too late"

    checks = [
        Check("queues", silent, limit_seconds=0.0, place=lambda _: "Redis at 10.0.0.1:6379"),
        Check("depths", _sound, needs=["queues"]),
        Check("database", _sound),
    ]
    queues, depths, database = examine(checks, SETTINGS)
    ends.set()
    assert not queues.ok
    assert queues.detail.startswith("Redis at 10.0.0.1:6379 has not answered within 0 s")
    assert depths == Finding("depths", False, "not looked at, as this failed: queues")
    assert database.ok


def test_a_defect_of_one_check_does_not_hide_what_the_others_find() -> None:
    def defect(_: Settings) -> str:
        raise ZeroDivisionError("a defect")

    first, second = examine([Check("defect", defect), Check("sound", _sound)], SETTINGS)
    assert (first.ok, "ZeroDivisionError" in first.detail, second.ok) == (False, True, True)


def test_a_failure_is_told_by_its_own_words() -> None:
    def away(_: Settings) -> str:
        raise BrokerUnavailable("Redis is away")

    assert next(examine([Check("queues", away)], SETTINGS)).detail == "Redis is away"
