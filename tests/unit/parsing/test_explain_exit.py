"""A parser's death names the limit it ran into and the setting to raise."""

from __future__ import annotations

import signal

import pytest

from embedfleet.parsing.frames import EXIT_OUT_OF_MEMORY
from embedfleet.parsing.sandbox import explain_exit
from embedfleet.settings import ParsingSettings

_LIMITS = ParsingSettings(memory_mb=300, cpu_seconds=7)


@pytest.mark.parametrize(
    ("status", "limit", "setting"),
    [
        (EXIT_OUT_OF_MEMORY, "300 MB", "parsing.memory_mb"),
        (-signal.SIGABRT, "300 MB", "parsing.memory_mb"),
        (-signal.SIGSEGV, "300 MB", "parsing.memory_mb"),
        (-signal.SIGXCPU, "7 s", "parsing.cpu_seconds"),
    ],
)
def test_the_limit_and_its_setting_are_named(status: int, limit: str, setting: str) -> None:
    reason = explain_exit(status, _LIMITS)
    assert limit in reason
    assert setting in reason
    assert "\n" not in reason


def test_a_kill_from_outside_is_not_blamed_on_the_file() -> None:
    reason = explain_exit(-signal.SIGKILL, _LIMITS)
    assert "was killed" in reason
    assert "leave it out" not in reason
