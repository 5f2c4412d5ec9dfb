"""Fixtures every tier of tests may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.clock import ManualClock
from embedfleet.settings import Settings
from support.chroma_server import ChromaServer
from support.system import make_settings


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves only when the test says so."""
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of an embedded system in a directory of the test's own, with the stub model."""
    return make_settings(tmp_path)


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """A running server that tests share: name collections uniquely, and leave it running. A test that
    stops or kills one starts its own `ChromaServer`."""
    with ChromaServer(tmp_path_factory.mktemp("chroma-server") / "data") as server:
        yield server
