"""Runs of faults that are remembered, so that an interrupted suite goes on, and published."""

from __future__ import annotations

import json
import subprocess
import tempfile
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from report import report_of

from chaos import ROOT
from chaos.faults import FAULTS, runner
from chaos.verdict import Context, Size, Verdict

RESULTS = ROOT / "chaos" / "results"
_CHANGED = "+"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is remembered of a run."""

    fault: str
    seed: int
    size: str
    commit: str
    passed: bool
    line: str
    findings: list[str]


class Runs:
    """The runs of one seed and size at this commit. `results` get the details of full runs."""

    def __init__(self, state: Path, *, seed: int, size: Size, results: Path = RESULTS) -> None:
        self._state = state
        self._seed = seed
        self._size = size
        self._results = results if size is Size.FULL else state / "results"
        self._commit = _commit()

    def done(self, fault: str) -> Outcome | None:
        """The run there has been, if it was of the very same thing."""
        try:
            outcome = Outcome(**json.loads(self._file(fault).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        same = (outcome.seed, outcome.size, outcome.commit) == (self._seed, self._size.value, self._commit)
        return outcome if same and _CHANGED not in self._commit else None

    async def run(self, fault: str) -> Outcome:
        """Run it now; an exception of the fault's own is a failure like any other."""
        self._state.mkdir(parents=True, exist_ok=True)
        started = monotonic()
        with tempfile.TemporaryDirectory(prefix=f"{fault}-", dir=self._state.resolve()) as folder:
            context = Context.of(fault, seed=self._seed, size=self._size, folder=Path(folder))
            try:
                verdict = await runner(fault)(context)
            except Exception as exc:  # noqa: BLE001 - the suite goes on with the next fault
                traceback.print_exc()
                verdict = Verdict(
                    FAULTS[fault][1], "did not come to its end", [f"{type(exc).__name__}: {exc}"]
                )
        seconds = monotonic() - started
        outcome = self._outcome(fault, verdict, seconds)
        self._publish(outcome, verdict, seconds)
        self._file(fault).write_text(json.dumps(asdict(outcome)))
        return outcome

    def _outcome(self, fault: str, verdict: Verdict, seconds: float) -> Outcome:
        how = "PASS" if verdict.passed else "FAIL"
        line = f"{fault} {how}  {verdict.done}: {verdict.outcome} (seed {self._seed}, {seconds:.0f} s)"
        findings = list(verdict.findings)
        return Outcome(fault, self._seed, self._size.value, self._commit, verdict.passed, line, findings)

    def _publish(self, outcome: Outcome, verdict: Verdict, seconds: float) -> None:
        figures = {
            "title": FAULTS[outcome.fault][1],
            "passed": outcome.passed,
            "done": verdict.done,
            "outcome": verdict.outcome,
            "findings": outcome.findings,
            "seed": outcome.seed,
            "size": outcome.size,
            "commit": outcome.commit,
            "seconds": round(seconds, 1),
            **verdict.figures,
        }
        command = f"python -m chaos {outcome.fault} --seed {outcome.seed} --size {outcome.size}"
        self._results.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report_of(outcome.fault, figures, command=command), indent=2)
        (self._results / f"{outcome.fault}.json").write_text(text + "\n")

    def _file(self, fault: str) -> Path:
        return self._state / f"{fault}.json"


def _commit() -> str:
    """Of the sources as they are, with a mark if they were changed since: such a run is always repeated."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "src", "chaos/*.py", "chaos/faults", "tests/support")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (_CHANGED if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
