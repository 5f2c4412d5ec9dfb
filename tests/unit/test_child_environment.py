"""What child processes know of the environment of their parent."""

from __future__ import annotations

import os

import pytest

from embedfleet import child_environment


def test_a_child_gets_the_variables_that_are_named_and_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "yes")
    monkeypatch.setenv("SECRET", "hush")
    monkeypatch.delenv("ABSENT", raising=False)
    assert child_environment.of_these(["WANTED", "ABSENT"]) == {"WANTED": "yes"}


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (["/a", "/b"], ["/a", "/b"]),
        (["/a", ""], ["/a"]),
        (["", "/a", "", "/b"], ["/a", "/b"]),
        ([""], []),
    ],
)
def test_the_current_folder_is_no_part_of_its_import_path(
    monkeypatch: pytest.MonkeyPatch, given: list[str], passed_on: list[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(given))
    assert child_environment.of_these(["PYTHONPATH"]) == {"PYTHONPATH": os.pathsep.join(passed_on)}


def test_settings_do_not_reach_a_child_that_gets_them_by_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDFLEET_DATABASE__URL", "postgresql://user:hush@host/db")
    monkeypatch.setenv("OTHER", "yes")
    chosen = child_environment.without_settings()
    assert chosen["OTHER"] == "yes"
    assert "hush" not in str(chosen)
