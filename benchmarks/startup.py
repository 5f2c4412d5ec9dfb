"""Figure S6: how long the command line takes to answer.

    python benchmarks/startup.py

Median and spread over warm starts, with the bare interpreter beside them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from time import perf_counter

from report import write_report

ROUNDS = 15


def seconds_of(command: list[str]) -> list[float]:
    """Wall time of each round, sorted; the first, cold one is not counted."""
    times = []
    for _ in range(ROUNDS + 1):
        start = perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(perf_counter() - start)
    return sorted(times[1:])


def main() -> None:
    commands = {
        "embedfleet --help": [sys.executable, "-m", "embedfleet", "--help"],
        "embedfleet ingest --help": [sys.executable, "-m", "embedfleet", "ingest", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    figures = {}
    for name, command in commands.items():
        times = seconds_of(command)
        figures[name] = {
            "median_s": round(statistics.median(times), 3),
            "min_s": round(times[0], 3),
            "max_s": round(times[-1], 3),
        }
    write_report("startup", {"rounds": ROUNDS, "target_s": 0.4, **figures})


if __name__ == "__main__":
    main()
