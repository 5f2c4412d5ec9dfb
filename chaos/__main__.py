"""Run faults and say what came of them, one line each.

    python -m chaos [R1 R3 …] [--seed 42] [--size full|short] [--state DIR]
    python -m chaos report

A fault that has run before with the same seed, size and commit (in the same --state) is not run again. The
exit code is 1 if any fault failed. `report` renews the table of docs/reliability.md from chaos/results.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from loguru import logger

from chaos import ROOT
from chaos.faults import FAULTS
from chaos.runs import Outcome, Runs
from chaos.table import renew
from chaos.verdict import Size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="all, if none is named")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--size", type=Size, default=Size.FULL, choices=list(Size))
    parser.add_argument("--state", type=Path, default=ROOT / ".chaos", help="what has run, and scratch files")
    arguments = parser.parse_args()
    if arguments.faults == ["report"]:
        return renew()
    unknown = [fault for fault in arguments.faults if fault not in FAULTS]
    if unknown:
        parser.error(f"no fault {', '.join(unknown)}: there are {', '.join(FAULTS)}")
    logger.disable("embedfleet")
    runs = Runs(arguments.state, seed=arguments.seed, size=arguments.size)
    passed = [_run(runs, fault).passed for fault in arguments.faults or FAULTS]
    return 0 if all(passed) else 1


def _run(runs: Runs, fault: str) -> Outcome:
    outcome = runs.done(fault) or asyncio.run(runs.run(fault))
    print(outcome.line, flush=True)
    for finding in outcome.findings:
        print(f"   {finding}", file=sys.stderr)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
