"""Fixtures every tier of tests may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.clock import ManualClock
from embedfleet.settings import Settings
from support.system import make_settings


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves only when the test says so."""
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of an embedded system in a directory of the test's own, with the stub model."""
    return make_settings(tmp_path)
