"""Fixtures every tier of tests may use."""

from __future__ import annotations

import pytest

from embedfleet.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves only when the test says so."""
    return ManualClock()
