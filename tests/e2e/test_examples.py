"""What the documents show runs as it stands."""

from __future__ import annotations

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
