"""Trouble is known as long as it lasts, and logged once when it begins and once when it is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loguru import logger

from embedfleet.errors import BrokerUnavailable, DatabaseUnavailable
from embedfleet.trouble import Trouble


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line).rstrip()), format="{level} {message}")
    yield lines
    logger.remove(sink)


def test_a_row_of_failures_is_logged_once(logged: list[str]) -> None:
    trouble = Trouble(over="the broker answers again")
    trouble.note(BrokerUnavailable("redis is away"))
    last = DatabaseUnavailable("so is the database")
    trouble.note(last)
    assert trouble.failure is last
    trouble.clear()
    trouble.clear()
    assert trouble.failure is None
    assert logged == ["WARNING waiting: redis is away", "INFO the broker answers again"]


def test_the_next_row_is_logged_again(logged: list[str]) -> None:
    trouble = Trouble()
    for _ in range(2):
        trouble.note(BrokerUnavailable("redis is away"))
        trouble.clear()
    assert logged == ["WARNING waiting: redis is away", "INFO it goes on"] * 2
