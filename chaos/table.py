"""The table of docs/reliability.md, from the results of the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chaos import ROOT
from chaos.faults import FAULTS
from chaos.page import put_between
from chaos.runs import RESULTS

PAGE = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"


def table(results: Path) -> str:
    """Markdown; a fault without a result says so."""
    machines: dict[str, list[str]] = {}
    rows = ["| fault | verdict | injected | found | seed | seconds |", "|---|---|---|---|---|---|"]
    for fault, (_module, title) in FAULTS.items():
        file = results / f"{fault}.json"
        if not file.exists():
            rows.append(f"| {fault} | not run yet | {title} | | | |")
            continue
        report = json.loads(file.read_text())
        figures = report["figures"]
        machines.setdefault(_where(report), []).append(fault)
        how = "pass" if figures["passed"] else "**fail**"
        rows.append(
            f"| {fault} | {how} | {figures['done']} | {figures['outcome']} | {figures['seed']} | "
            f"{figures['seconds']:.0f} |"
        )
    told = [f"{', '.join(faults)}: {where}." for where, faults in machines.items()]
    return "\n".join([*rows, "", *told])


def _where(report: dict[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    return (
        f"{machine['cpu_count']} cores of {machine['cpu']}, Python {versions['python']}, chromadb "
        f"{versions['chromadb']}, {report['date'][:10]}, commit {report['figures']['commit']}"
    )


def renew(page: Path = PAGE, results: Path = RESULTS) -> int:
    """Put the table into the page; the exit code."""
    return put_between(page, _BEGIN, _END, lambda: table(results))
