"""`embedfleet doctor`: checks whether everything is in order, and says what to do if not."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_here
from embedfleet.cli.output import NOTHING_DONE, print_json, say

if TYPE_CHECKING:
    from embedfleet.cli.examination import Finding


def doctor(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Check settings, disk, services, workers, vectors, parser and model; exit 1 if anything is wrong.

    Each check ends within a few seconds, also if a service is silent, and is shown as it ends.
    """
    from embedfleet import log
    from embedfleet.cli.doctor_checks import checks_of
    from embedfleet.cli.examination import examine

    log.configure(level="ERROR", as_json=False)
    settings = settings_here(data_dir, config)
    findings: list[Finding] = []
    for finding in examine(checks_of(settings), settings):
        findings.append(finding)
        if not as_json:
            say(f"{_mark(finding)} {finding.check:<10} {finding.detail}")
    healthy = all(finding.ok for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    raise SystemExit(0 if healthy else NOTHING_DONE)


def _mark(finding: Finding) -> str:
    if not finding.ok:
        return "FAIL"
    return "warn" if finding.warning else "ok  "
