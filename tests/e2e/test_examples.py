"""What the documents show runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from support.hangs import HANG_SECONDS

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_quickstart_ends_with_a_hit() -> None:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py"],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    status, hit = ran.stdout.splitlines()
    assert status == "completed: 1 chunk, coverage 100%"
    assert "notes.md" in hit


def test_the_application_submits_waits_searches_and_lists() -> None:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "application.py"],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    assert ran.stdout.splitlines() == [
        "1: completed",
        "2: completed",
        "found in leases.html: Leases",
        "1 of that topic, exact: True",
        "1: None, minilm, live",
        "2: leases.html, minilm, live",
    ]
    shown = (EXAMPLES.parent / "docs" / "python.md").read_text()
    code = (EXAMPLES / "application.py").read_text()
    parts = re.findall(r"```python\n(.*?)```", shown, re.DOTALL)
    assert parts
    for line in (line for part in parts for line in part.splitlines()):
        assert line.strip() in code, f"docs/python.md shows a line that the example does not run: {line}"
