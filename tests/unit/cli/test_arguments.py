"""Arguments that no command takes are refused before the command does anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import Command


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "caf\udce9"),
        ("documents", "list", "--tenant", "\udcff"),
        ("documents", "delete", "a", "--tenant", ""),
        ("documents", "delete", ""),
        ("jobs", "show", "\udcff"),
        ("dlq", "show", "99999999999999999999"),
        ("events", "--after", "99999999999999999999"),
        ("events", "--after", "-1"),
        ("verify", "--sample", "nan"),
        ("models", "bench", "--seconds", "nan"),
        ("models", "bench", "--seconds", "inf"),
        ("ingest", ""),
        ("ingest", "--prune", ""),
        ("ingest", ".", "--data-dir="),
        ("ingest", ".", "--data-dir", ""),
        ("ingest", ".", "--tenant="),
        ("scale", "embedding", "-1"),
        ("jobs", "list", "--status", "\x1b[31m"),
        ("--nonsense\x1b",),
        ("nonsense\x1b",),
    ],
    ids=ascii,
)
def test_a_wrong_argument_is_wrong_usage_and_nothing_is_made(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    command = Command(tmp_path)
    done = command.typed(*arguments)
    assert (done.code, done.stdout) == (2, "")
    assert "internal error" not in done.stderr
    assert "\x1b" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [".", "./"])
def test_the_current_folder_may_be_named_beside_what_may_be_empty(path: str, tmp_path: Path) -> None:
    done = Command(tmp_path).typed("models", "add", "x", "--path", path, "--query-prefix", "")
    assert (done.code, "say what runs the model" in done.stderr) == (1, True)
