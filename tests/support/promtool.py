"""Prometheus's own checker of rules and configurations."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.hangs import HANG_SECONDS


def promtool(*arguments: str, folder: Path) -> None:
    """Run it in this folder. Raises AssertionError with what it says if it finds something wrong."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    ran = subprocess.run(
        ["promtool", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
