"""What an operator sees of a system: `doctor`, `/readyz`, the log, and the exit code of a process or command.

Whatever differs from one run to the next (folders, ports, hosts, times, ids) is replaced by a word, so that
two runs of the same code can be compared, and a table of them be published.
"""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.error
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from support.fleet import Fleet, Orchestrator

_LOOK_AGAIN_SECONDS = 0.1
# An orchestrator is ready after a few seconds, or it has refused to start. On a busy machine it takes longer.
_START_SECONDS = 90.0
_LONGEST_QUOTE = 240

_NOISE: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"/tmp/[^\s:,;)'\"`]+"), "PATH"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z| UTC|[+-]\d\d:?\d\d)?"), "TIME"),
    (re.compile(r"^\d\d:\d\d:\d\d(?:\.\d+)? "), ""),
    (re.compile(r"\b(?:127\.0\.0\.1|localhost):\d+"), "HOST:PORT"),
    (re.compile(r"\('127\.0\.0\.1', \d+\)"), "HOST:PORT"),
    (re.compile(r"\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b"), "ID"),
    (re.compile(r"\b(process|pid|port) \d+"), r"\1 N"),
]


@dataclass(slots=True)
class Signs:
    """What was seen in one situation. None, or an empty value: there was no such thing to look at."""

    doctor_code: int | None = None
    doctor_says: list[str] = field(default_factory=list)
    readyz_code: int | None = None
    readyz_says: str = ""
    log_lines: int | None = None
    log_seconds: float | None = None
    log_says: list[str] = field(default_factory=list)
    exit_of: str = ""
    exit_code: int | None = None
    exit_says: str = ""
    harm: str = ""
    """What was lost or harmed, or that nothing was."""

    @property
    def log_lines_a_minute(self) -> float | None:
        if self.log_lines is None or not self.log_seconds:
            return None
        return round(60 * self.log_lines / self.log_seconds, 1)

    def consult_doctor(self, fleet: Fleet) -> None:
        """Run `doctor` with the settings of `fleet`; keep what is not in order."""
        done = fleet.command("doctor", "--json")
        self.doctor_code = done.returncode
        try:
            findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
        except (ValueError, KeyError):
            self.doctor_says = [plain(done.stderr or done.stdout)]
            return
        self.doctor_says = [
            f"{finding['check']}: {plain(str(finding['detail']))}"
            for finding in findings
            if not finding["ok"] or finding.get("warning")
        ]

    def ask_readyz(self, one: Orchestrator) -> None:
        try:
            self.readyz_code, said = one.get("/readyz")
        except (urllib.error.URLError, OSError):
            self.readyz_code, said = None, "does not answer"
        self.readyz_says = plain("; ".join(said.strip().splitlines()))

    def ended(self, what: str, code: int | None, said: str) -> None:
        """`what` ended with this code, and its last line on stderr says why; None: it goes on running."""
        lines = [line for line in said.strip().splitlines() if line.strip()]
        self.exit_of, self.exit_code = what, code
        self.exit_says = plain(lines[-1]) if lines and code else ""

    def document(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return kept | {"log_lines_a_minute": self.log_lines_a_minute}


class LogWatch:
    """Counts the lines that an orchestrator logs from now on."""

    def __init__(self, one: Orchestrator) -> None:
        self._one = one
        self._before = len(one.log.read_text().splitlines())
        self._began = monotonic()

    def report(self, signs: Signs) -> None:
        lines = self._one.log.read_text().splitlines()[self._before :]
        signs.log_lines, signs.log_seconds = len(lines), round(monotonic() - self._began, 1)
        signs.log_says = _by_shape(lines)


def settled(one: Orchestrator) -> int | None:
    """Wait until the orchestrator is ready, or has ended. Return its exit code, None if it runs."""
    give_up_at = monotonic() + _START_SECONDS
    while monotonic() < give_up_at:
        code = one.process.poll()
        if code is not None:
            return code
        with suppress(urllib.error.URLError, OSError):  # it does not listen yet
            if one.get("/readyz")[0] == 200:
                return None
        time.sleep(_LOOK_AGAIN_SECONDS)
    return one.process.poll()


def plain(text: str) -> str:
    """The text in one line, without what differs from run to run, and not longer than a cell may be."""
    for pattern, word in _NOISE:
        text = pattern.sub(word, text)
    text = " ".join(text.replace(socket.gethostname(), "HOST").split())
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]} …"


def _by_shape(lines: Sequence[str]) -> list[str]:
    """Warnings and errors, each kind once with its number, the most frequent first."""
    counts: dict[str, int] = {}
    for line in lines:
        if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line):
            shape = re.sub(r"\d+(?:\.\d+)?", "N", plain(line))
            counts[shape] = counts.get(shape, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [f"{count} x {shape}" for shape, count in ordered]
