"""Figure S6: how long the command line takes to answer, a cold search, and the start of a worker process.

    python benchmarks/startup.py

Median and spread over warm starts, with the bare interpreter beside them. The search is of a data directory
with 20 small documents and the bundled MiniLM, without an orchestrator. CPU is that of the command and of
the processes that it starts.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from report import write_report

ROUNDS = 15
_DOCUMENTS = 20
_IMPORTS_OF_A_WORKER = "import embedfleet.worker_process; from embedfleet.bootstrap import open_worker"


def figures_of(command: list[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Wall time and CPU time over the rounds; the first, cold one is not counted."""
    wall, cpu = [], []
    for _ in range(ROUNDS + 1):
        cpu_before, start = _children_cpu(), perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(environment))
        wall.append(perf_counter() - start)
        cpu.append(_children_cpu() - cpu_before)
    return {
        "median_s": round(statistics.median(wall[1:]), 3),
        "min_s": round(min(wall[1:]), 3),
        "max_s": round(max(wall[1:]), 3),
        "cpu_median_s": round(statistics.median(cpu[1:]), 3),
    }


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _searchable(folder: Path) -> dict[str, str]:
    """Ingest a few documents; returns the environment in which a search finds them."""
    documents = folder / "documents"
    documents.mkdir()
    for number in range(_DOCUMENTS):
        (documents / f"{number}.txt").write_text(f"Penguins of colony {number} live in the cold south.")
    environment = dict(os.environ) | {"EMBEDFLEET_DATA_DIR": str(folder / "data")}
    ingest = [sys.executable, "-m", "embedfleet", "ingest", str(documents)]
    subprocess.run(ingest, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return environment


def main() -> None:
    commands = {
        "embedfleet --help": [sys.executable, "-m", "embedfleet", "--help"],
        "embedfleet ingest --help": [sys.executable, "-m", "embedfleet", "ingest", "--help"],
        "embedfleet jobs list": [sys.executable, "-m", "embedfleet", "jobs", "list"],
        "a worker's imports": [sys.executable, "-c", _IMPORTS_OF_A_WORKER],
        "embedfleet search": [sys.executable, "-m", "embedfleet", "search", "birds of the cold"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    with TemporaryDirectory() as folder:
        environment = _searchable(Path(folder))
        figures = {name: figures_of(command, environment) for name, command in commands.items()}
    write_report("startup", {"rounds": ROUNDS, "target_s": 0.4, **figures})


if __name__ == "__main__":
    main()
