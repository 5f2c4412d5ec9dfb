"""The report of `embedfleet ingest`: sums, and the problems. It keeps nothing else of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from embedfleet.cli.account_sums import AccountSums, named_and_more
from embedfleet.errors import OverBudget
from embedfleet.ingest import FileOutcome, FileState
from embedfleet.lifecycle.estimates import Budget
from embedfleet.queue_schemas import JobInfo, JobStatus

_MOST_KINDS = 8
"""How many kinds of skipped files are named."""

FOLLOWED = (FileState.SUBMITTED, FileState.RESUMED)
"""The states of files whose jobs this ingest waits for."""


@dataclass(slots=True)
class IngestReport:
    """What became of the files that were added. It is complete even after an interruption.

    `problems`: (source, reason) of every file that is not completely searchable. `kept_models`: by model, how
    many files kept the model of their document, as none was chosen; `left_models`: how many moved to the
    default model, as theirs is not configured any more. `skipped`: by kind, how many files in the folders
    were not taken. `over_budget` says where the `budget` ended the ingest, and `not_reached` counts that file
    and those after it.
    """

    tenant: str
    problems: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    kept_models: dict[str, int] = field(default_factory=dict)
    left_models: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    budget: Budget | None = None
    over_budget: OverBudget | None = None
    not_reached: int = 0
    _accounts: AccountSums = field(default_factory=AccountSums)
    _emptied: list[str] = field(default_factory=list)
    _states: Counter[FileState] = field(default_factory=Counter)
    _jobs: Counter[JobStatus] = field(default_factory=Counter)
    _chunks_stored: int = 0
    _chunks_embedded: int = 0
    _chunks_reused: int = 0

    def add(self, outcome: FileOutcome, job: JobInfo | None) -> None:
        """Count a file, once. `job` says how its job ended, or how far it is after an interruption."""
        self._states[outcome.state] += 1
        if outcome.error is not None:
            self.problems.append((outcome.source, outcome.error))
        if outcome.state is FileState.EMPTIED:
            self._emptied.append(outcome.source)
        if outcome.state in FOLLOWED:
            # What the chunker found is only in the job's account.
            self._accounts.add(outcome.source, outcome.account if job is None else job.account)
        if job is None or outcome.state not in FOLLOWED:
            return
        self._jobs[job.status] += 1
        self._chunks_stored += job.progress.chunks_stored
        self._chunks_embedded += job.progress.chunks_embedded - job.progress.chunks_reused
        self._chunks_reused += job.progress.chunks_reused
        if job.status.terminal and job.status is not JobStatus.COMPLETED:
            self.problems.append((outcome.source, f"{job.status.value}: {job.reason}"))

    @property
    def something_done(self) -> bool:
        done = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)
        kept = (FileState.UNCHANGED, FileState.PRUNED, FileState.EMPTY, FileState.EMPTIED)
        return any(self._jobs[status] for status in done) or any(self._states[state] for state in kept)

    def totals(self) -> dict[str, Any]:
        return {
            "files": self._states.total() - self._states[FileState.PRUNED],
            "ingested": self._jobs[JobStatus.COMPLETED],
            "unchanged": self._states[FileState.UNCHANGED],
            "failed": len(self.problems),
            "unfinished": sum(count for status, count in self._jobs.items() if not status.terminal),
            "pruned": self._states[FileState.PRUNED],
            "empty": self._states[FileState.EMPTY],
            "emptied": self._states[FileState.EMPTIED],
            "skipped": sum(self.skipped.values()),
            "chunks_stored": self._chunks_stored,
            "chunks_embedded": self._chunks_embedded,
            "chunks_reused": self._chunks_reused,
            "seconds": round(self.seconds, 2),
        }

    def document(self) -> dict[str, Any]:
        """The part of `--json` that comes after the files."""
        return {
            "errors": [{"source": source, "error": reason} for source, reason in self.problems],
            "interrupted": self.interrupted,
            "budget": self._budget_document(),
            "account": self._accounts.json_document(),
            "skipped": self.skipped,
            "totals": self.totals(),
        }

    def _budget_document(self) -> dict[str, Any] | None:
        if self.budget is None:
            return None
        return {
            "cap": self.budget.cap,
            "spent": self.budget.spent,
            "stopped_at": self.budget.stopped_at,
            "next_cost": self.budget.next_cost,
            "not_reached": self.not_reached,
        }

    def lines(self) -> Iterator[str]:
        """The report for people."""
        totals = self.totals()
        yield (
            f"{totals['ingested']} ingested, {totals['unchanged']} unchanged, {totals['failed']} failed"
            + "".join(f", {totals[name]} {name}" for name in ("pruned", "empty", "emptied") if totals[name])
            + (f", {totals['unfinished']} unfinished" if totals["unfinished"] else "")
            + f"; {totals['chunks_embedded']} chunks embedded, {totals['chunks_reused']} reused "
            f"in {totals['seconds']:.1f} s"
        )
        yield from self._accounts.lines()
        if self._emptied:
            names = named_and_more(self._emptied, totals["emptied"])
            yield f"emptied: {names}: no text is left in them, so their documents are deleted"
        if self.skipped:
            kinds = sorted(self.skipped.items(), key=lambda item: (-item[1], item[0]))
            named = ", ".join(f"{count} {kind}" for kind, count in kinds[:_MOST_KINDS])
            more = ", ..." if len(kinds) > _MOST_KINDS else ""
            yield (
                f"skipped: {totals['skipped']} that are not read ({named}{more}): `embedfleet formats` lists "
                "what is; a file that is named itself is tried in any case"
            )
        if self.budget is not None:
            yield f"spent: {self.budget.spent:.4f} of {self.budget.cap:g}"
        if self.interrupted:
            yield "stopped; run the same command again to go on"


def entry_of(outcome: FileOutcome, job: JobInfo | None) -> dict[str, Any]:
    """A file's entry in `--json`."""
    return {
        "source": outcome.source,
        "state": outcome.state.value,
        "job": None if job is None else job.json_document(),
        "error": outcome.error,
        "account": (outcome.account if job is None else job.account).json_document(),
        "warnings": list((outcome.account if job is None else job.account).warnings),
    }
