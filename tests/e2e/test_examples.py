"""What the documents show runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.command import Command
from support.hangs import HANG_SECONDS

EXAMPLES = Path(__file__).parents[2] / "examples"


def output_of(example: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What the example prints. It must end well."""
    ran = subprocess.run(
        [sys.executable, EXAMPLES / example, *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_quickstart_ends_with_a_hit() -> None:
    status, hit = output_of("quickstart.py").splitlines()
    assert status == "completed: 1 chunk, coverage 100%"
    assert "notes.md" in hit


def test_the_application_submits_waits_searches_and_lists() -> None:
    assert output_of("application.py").splitlines() == [
        "1: completed",
        "2: completed",
        "found in leases.html: Leases",
        "1 of that topic, exact: True",
        "1: None, minilm, live",
        "2: leases.html, minilm, live",
    ]
    lines_run("python.md", "application.py")


def test_the_page_on_moving_in_shows_lines_of_its_example() -> None:
    lines_run("traffic.md", "moving_in.py")


@pytest.mark.slow
def test_the_application_that_moves_sends_some_tenants_to_the_fleet(command: Command) -> None:
    command.typed("traffic", "set", "50")
    told = output_of("moving_in.py", "24", environment=command.environment())
    counts = re.fullmatch(r"async: (\d+), sync: (\d+)\n", told)
    assert counts is not None, told
    assert int(counts[1]) + int(counts[2]) == 24
    assert re.search(rf"^fleet +{counts[1]} ", command.typed("traffic", "status").stdout, re.MULTILINE)


def lines_run(page: str, example: str) -> None:
    """Every line of Python that the page shows is one that the example runs."""
    shown = (EXAMPLES.parent / "docs" / page).read_text()
    code = (EXAMPLES / example).read_text()
    parts = re.findall(r"```python\n(.*?)```", shown, re.DOTALL)
    assert parts
    for line in (line for part in parts for line in part.splitlines()):
        assert line.strip() in code, f"docs/{page} shows a line that the example does not run: {line}"
