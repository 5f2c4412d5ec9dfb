"""Fixtures of the tests that type commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """With a data directory of the test's own."""
    return Command(tmp_path)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder of two small documents."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "cats.md").write_text("# Cats\n\nThe cat sat on the mat.\n")
    (folder / "dogs.txt").write_text("The dog lay in the sun.\n")
    return folder
