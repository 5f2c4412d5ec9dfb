"""What an operator sees when something is wrong: a part of docs/operations.md.

    python -m chaos.operators [NAME …] [--away 60] [--watch 20]
    python -m chaos.operators report

Each situation is brought about with real servers and processes; about ten minutes for all. What was seen goes
to chaos/results/operators.json, situations that were not run keep what is there. `report` only renews the
page. The exit code is 1 if a situation could not be brought about.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loguru import logger
from report import report_of

from chaos import ROOT
from chaos.page import put_between
from chaos.runs import RESULTS
from chaos.situations import SITUATIONS, Limits

RESULT = RESULTS / "operators.json"
PAGE = ROOT / "docs" / "operations.md"
_BEGIN, _END = "<!-- what an operator sees: begin -->", "<!-- what an operator sees: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SITUATIONS)}; all if none")
    parser.add_argument("--away", type=float, default=60.0, help="seconds for which a server is away")
    parser.add_argument("--watch", type=float, default=20.0, help="seconds for which the others are watched")
    parser.add_argument("--result", type=Path, default=RESULT, help="where to write what was seen")
    arguments = parser.parse_args()
    if arguments.names == ["report"]:
        return renew()
    if unknown := sorted(set(arguments.names) - set(SITUATIONS)):
        parser.error(f"no situation {', '.join(unknown)}: there are {', '.join(SITUATIONS)}")
    logger.disable("embedfleet")
    seen = _run(arguments.names or list(SITUATIONS), arguments.away, arguments.watch)
    _publish(seen, arguments.result, arguments.away)
    if arguments.result == RESULT:
        renew()
    return 1 if any("could_not" in signs for signs in seen.values()) else 0


def _run(names: Sequence[str], away: float, watch: float) -> dict[str, dict[str, Any]]:
    seen: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="operators-") as folder:
        for name in names:
            title, bring = SITUATIONS[name]
            print(f"{name}: {title}", file=sys.stderr, flush=True)
            try:
                signs = asyncio.run(bring(Limits(Path(folder), away, watch)))
                seen[name] = signs.document()
            except Exception as exc:  # noqa: BLE001 - the other situations are brought about all the same
                traceback.print_exc()
                seen[name] = {"could_not": f"{type(exc).__name__}: {exc}"}
    return seen


def _publish(seen: Mapping[str, Mapping[str, Any]], result: Path, away: float) -> None:
    before = json.loads(result.read_text())["figures"]["seen"] if result.exists() else {}
    kept = {name: signs for name, signs in (before | dict(seen)).items() if name in SITUATIONS}
    figures = {"away_seconds": away, "seen": kept}
    result.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report_of("operators", figures, command="python -m chaos.operators"), indent=2)
    result.write_text(text + "\n")


def sections(report: Mapping[str, Any]) -> str:
    """Markdown of a result, a section for each situation; one without a result says so."""
    figures = report["figures"]
    machine = report["machine"]
    where = f"{machine['cpu_count']} cores of {machine['cpu']}, {report['date'][:10]}"
    lines = [f"By `{report['command']}` (`make operators`), {where}."]
    for name, (title, _bring) in SITUATIONS.items():
        if name.endswith("-away"):
            title += f" for {figures['away_seconds']:.0f} s"
        signs = figures["seen"].get(name, {"could_not": "not run yet"})
        lines += ["", f"### {title[0].upper()}{title[1:]}", "", *_signs(signs)]
    return "\n".join(lines)


def _signs(signs: Mapping[str, Any]) -> list[str]:
    if "could_not" in signs:
        return [signs["could_not"]]
    found = []
    if signs["doctor_code"] is not None or signs["doctor_says"]:
        says = "; ".join(signs["doctor_says"]) or "all in order"
        found.append(f"`doctor`, exit code {signs['doctor_code']}: {says}")
    if signs["readyz_code"] is not None:
        found.append(f"`/readyz`: {signs['readyz_code']} {signs['readyz_says']}")
    if signs["log_lines_a_minute"] is not None:
        most = "".join(f"; {line}" for line in signs["log_says"][:2])
        found.append(f"log: {signs['log_lines_a_minute']:g} lines a minute{most}")
    if signs["exit_of"]:
        found.append(_exit(signs))
    return [f"- {one}" for one in [*found, f"harm: {signs['harm']}"]]


def _exit(signs: Mapping[str, Any]) -> str:
    if signs["exit_code"] is None:
        return f"`{signs['exit_of']}` goes on"
    says = f": {signs['exit_says']}" if signs["exit_says"] else ""
    return f"`{signs['exit_of']}`, exit code {signs['exit_code']}{says}"


def renew(page: Path = PAGE, result: Path = RESULT) -> int:
    """Put the sections into the page; the exit code."""
    return put_between(page, _BEGIN, _END, lambda: sections(json.loads(result.read_text())))


if __name__ == "__main__":
    sys.exit(main())
