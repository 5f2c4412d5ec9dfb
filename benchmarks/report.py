"""One shape for every benchmark's result: figures, and all that is needed to judge and repeat them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Elsewhere for runs whose figures are not to be kept.
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", Path(__file__).parent / "results"))


def write_report(name: str, figures: Mapping[str, Any], *, path: Path | None = None) -> Path:
    """Write `figures` (JSON values, units in the keys) with their circumstances, and print the same.

    Returns the file written: `path`, or `results/<name>.json` beside this module. No host name, user or
    absolute interpreter path is recorded, so a report can be published.
    """
    target = path if path is not None else RESULTS / f"{name}.json"
    text = json.dumps(report_of(name, figures, command=shlex.join(["python", *sys.argv])), indent=2)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(f"written to {target}", file=sys.stderr)
    return target


def report_of(name: str, figures: Mapping[str, Any], *, command: str) -> dict[str, Any]:
    """The figures with their circumstances."""
    return {
        "name": name,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
        "figures": dict(figures),
    }


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": platform.system(),
        "architecture": platform.machine(),
    }


def _cpu_model() -> str:
    """The name people compare by; `platform.processor()` is empty on most Linux systems."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory_gib() -> float | None:
    """Physical memory; None where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return round(total / 2**30, 1)


def _versions() -> dict[str, str]:
    """Python, embedfleet, and whichever of its declared dependencies are installed."""
    names = {_requirement_name(line) for line in importlib.metadata.requires("embedfleet") or ()}
    versions = {"python": platform.python_version()}
    for name in sorted(names | {"embedfleet"}):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _requirement_name(line: str) -> str:
    """`psutil>=6; extra == "test"` -> `psutil`."""
    name = re.match(r"[A-Za-z0-9._-]+", line)
    assert name is not None, f"not a requirement: {line!r}"
    return name.group().lower()
