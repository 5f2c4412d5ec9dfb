"""A path that is away is left alone for a pause, and tried again after it."""

from __future__ import annotations

import time

import pytest

from embedfleet.traffic.circuit import Circuit


def test_the_machines_clock_that_is_set_back_prolongs_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = time.time(), time.monotonic()
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    circuit = Circuit()
    while not circuit.is_open:
        circuit.note_absence()
    assert not circuit.admits()
    wall -= 3600.0
    assert not circuit.admits()
    steady += 60.0  # twice the longest pause
    assert circuit.admits()
