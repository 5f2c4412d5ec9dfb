"""Percentages and times as people type them and as they read them."""

from __future__ import annotations

import pytest
import typer

from embedfleet.cli.quantities import (
    fraction,
    percent,
    percents,
    readable_percent,
    seconds,
)
from embedfleet.wording import readable_fraction, readable_seconds


@pytest.mark.parametrize(
    ("written", "value"), [("1%", 0.01), ("0.1%", 0.001), ("0%", 0.0), ("100%", 1.0), ("12.5%", 0.125)]
)
def test_a_fraction_is_a_percentage_with_its_sign(written: str, value: float) -> None:
    assert fraction(written, "--rate") == value


@pytest.mark.parametrize("written", ["", "1", "0.01", "-1%", "101%", "1 %", "1%%", "nan%", "1e2%", "१%"])
def test_what_is_no_fraction_is_refused_with_the_option_and_an_example(written: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"from 0% to 100%, such as 1%") as refused:
        fraction(written, "--rate")
    assert refused.value.param_hint == "--rate"


def test_steps_may_have_the_sign_or_not() -> None:
    assert percents("1,5%, 25,0.25,100", "PLAN") == [1.0, 5.0, 25.0, 0.25, 100.0]
    assert percent("25%", "PERCENT") == 25.0
    for wrong in ("", "1,,5", "1;5", "1,101", "a"):
        with pytest.raises(typer.BadParameter, match="from 0 to 100"):
            percents(wrong, "PLAN")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("90s", 90.0),
        ("30m", 1_800.0),
        ("1h30m", 5_400.0),
        ("7d", 604_800.0),
        ("1.5h", 5_400.0),
        ("250ms", 0.25),
    ],
)
def test_a_time_has_a_unit(written: str, value: float) -> None:
    assert seconds(written, "--hold") == value


@pytest.mark.parametrize(
    "written", ["", "30", "30 m", "m", "-1m", "1w", "30M", "1h-5m", "9" * 63 + "d", "5000d"]
)
def test_what_is_no_time_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"such as 90s, 30m"):
        seconds(written, "--hold")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0021, "2.1ms"), (1.234, "1.23s"), (90, "1m30s"), (1_800, "30m"), (90_000, "1d1h"), (86_461, "1d1m")],
)
def test_a_time_is_shown_in_its_two_largest_units(value: float, shown: str) -> None:
    assert readable_seconds(value) == shown


def test_percentages_are_shown_short() -> None:
    assert [readable_fraction(one) for one in (0.01, 0.001, 0.0, 0.12345)] == ["1%", "0.1%", "0%", "12.3%"]
    assert [readable_percent(one) for one in (25.0, 0.25, 12.345)] == ["25%", "0.25%", "12.35%"]
