"""Trouble is known as long as it lasts, and logged once when it begins and once when it is over."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from loguru import logger

from embedfleet.errors import BrokerUnavailable, DatabaseUnavailable, ModelUnavailable, StorageFull
from embedfleet.trouble import Trouble

AWAY = BrokerUnavailable("redis is away")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines of the log; durations are left out."""
    lines: list[str] = []
    sink = logger.add(
        lambda line: lines.append(re.sub(r", after [\d.]+ s$", "", str(line).rstrip())),
        format="{level} {message}",
    )
    yield lines
    logger.remove(sink)


def test_a_row_of_failures_is_logged_once(logged: list[str]) -> None:
    trouble = Trouble(over="it goes on")
    trouble.note(AWAY)
    trouble.note(last := BrokerUnavailable("redis is still away"))
    assert trouble.failure is last
    trouble.clear()
    trouble.clear()
    assert trouble.failure is None
    assert logged == ["WARNING waiting: redis is away", "INFO the broker answers again"]


def test_the_next_row_is_logged_again(logged: list[str]) -> None:
    trouble = Trouble()
    for _ in range(2):
        trouble.note(StorageFull("the disk is full"))
        trouble.clear()
    assert logged == ["WARNING waiting: the disk is full", "INFO it goes on"] * 2


def test_a_failure_whose_words_change_is_logged_once(logged: list[str]) -> None:
    trouble = Trouble(over="the model answers")
    for number in range(3):
        trouble.note(ModelUnavailable(f"no answer in {number}.5 s"))
    assert logged == ["WARNING waiting: no answer in 0.5 s"]
    trouble.clear()
    assert logged[1:] == ["INFO the model answers"]


def test_failures_of_two_classes_with_the_same_words_are_over_together(logged: list[str]) -> None:
    trouble = Trouble()
    trouble.note(StorageFull("full"))
    trouble.note(ModelUnavailable("full"))
    trouble.clear()
    assert logged == ["WARNING waiting: full", "INFO it goes on"]


def test_a_service_is_away_once_and_back_once_for_all_that_wait_for_it(logged: list[str]) -> None:
    parts = [Trouble(over=f"part {number} goes on") for number in range(5)]
    for number, part in enumerate(parts):
        part.note(BrokerUnavailable(f"redis is away, says part {number}"))
    assert logged == ["WARNING waiting: redis is away, says part 0"]
    for part in parts[:-1]:
        part.clear()
    assert len(logged) == 1, "one part still waits"
    parts[-1].clear()
    assert logged[1:] == ["INFO the broker answers again"]


def test_two_services_that_are_away_by_turns_are_each_said_once(logged: list[str]) -> None:
    trouble = Trouble()
    for _ in range(3):
        trouble.note(AWAY)
        trouble.note(DatabaseUnavailable("postgresql is away"))
    assert logged == ["WARNING waiting: redis is away", "WARNING waiting: postgresql is away"]
    trouble.clear()
    assert sorted(logged[2:]) == ["INFO the broker answers again", "INFO the database answers again"]


def test_a_part_that_ends_while_it_waits_hides_no_later_outage(logged: list[str]) -> None:
    for _ in range(2):
        Trouble().note(AWAY)
    assert logged == ["WARNING waiting: redis is away"] * 2
