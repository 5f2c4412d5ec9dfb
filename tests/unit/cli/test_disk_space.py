"""A command that finds less room than its work needs says so before it asks, and when it does not ask."""

from __future__ import annotations

import pytest
import typer

from embedfleet.cli.disk_space import confirm_with_space, warn_of_little_space


@pytest.mark.parametrize(("needed", "free"), [(10, None), (10, 10), (0, 0)])
def test_enough_or_unknown_is_no_warning(
    capsys: pytest.CaptureFixture[str], needed: int, free: int | None
) -> None:
    assert not warn_of_little_space(needed, free)
    assert capsys.readouterr().err == ""


def test_too_little_is_said_even_if_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    confirm_with_space("Switch?", needed_bytes=2_500_000, free_bytes=0, yes=True)
    assert capsys.readouterr().err == (
        "the disk is too full: at least 2.5 MB are needed, and 0.0 MB are free. What meets a full disk "
        "stops, submissions too: make room first\n"
    )


def test_then_the_question_is_another_one() -> None:
    with pytest.raises(typer.BadParameter, match="Switch all the same\\?"):
        confirm_with_space("Switch?", needed_bytes=2, free_bytes=1, yes=False)
    with pytest.raises(typer.BadParameter, match="ask: Switch\\?"):
        confirm_with_space("Switch?", needed_bytes=1, free_bytes=1, yes=False)
