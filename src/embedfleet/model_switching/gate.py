"""The gate: what the new space must show before it answers queries. `judge` is pure.

The questions are the tenant's own: titles and headings of its documents, asked in both spaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from embedfleet.records.model_switches import ModelSwitch
from embedfleet.settings import GateSettings

# The place of a document that is not among the first k, of which there are at most a hundred.
_BEYOND = 101


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """How both spaces answered a question, which is the title of a document or a heading in it.

    The ranks are those of the document in the two answers, from 1; None: it is not among the first k.
    `overlap` is the share of the hits that both answers have.
    """

    document_id: str
    is_title: bool
    start: int
    old_rank: int | None
    new_rank: int | None
    overlap: float

    @property
    def badness(self) -> tuple[bool, int, float]:
        """The greatest is the worst for the new space: found before and lost, then fallen, then unlike."""
        lost = self.old_rank is not None and self.new_rank is None
        return lost, (self.new_rank or _BEYOND) - (self.old_rank or _BEYOND), -self.overlap


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured by all questions. Recalls, overlap: shares. Seconds are the p95 of one search.

    `difference_low` and `difference_high` are the 95% interval of the difference of the recalls, new minus
    old.
    """

    questions: int
    k: int
    old_recall: float
    new_recall: float
    difference_low: float
    difference_high: float
    overlap: float
    old_p95_seconds: float
    new_p95_seconds: float
    old_bytes: int
    new_bytes: int

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that is kept with the switch."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Answers:
    """What was measured, and the questions that the new space answered worst, the worst first."""

    measured: Measured
    worst: Sequence[AskedQuestion]


class Gate(Protocol):
    """Asks both spaces of a switch the tenant's own questions."""

    async def ask(self, switch: ModelSwitch) -> Answers | None:
        """Return how both spaces answered; None if the tenant's documents have no titles or headings.

        Raises ModelError, UnknownModel or SpaceMismatch if this process does not have one of the models, and
        ModelUnavailable while one cannot be used. For a forced switch the model that is left is not waited
        for: then that is a ModelError, too.
        """
        ...


def judge(answers: Answers | None, settings: GateSettings) -> Sequence[str]:
    """Return why the new space must not answer queries, one sentence a reason; none: it may."""
    if answers is None:
        return [
            "no question could be drawn: the documents have no titles or headings; force the switch to go on"
        ]
    found = answers.measured
    reasons = [*_recall(found, settings)]
    if found.overlap < settings.min_overlap:
        reasons.append(
            f"the two spaces have {found.overlap:.1%} of the first {found.k} hits in common, at least "
            f"{settings.min_overlap:.1%} are asked for (min_overlap)"
        )
    ratio = found.new_p95_seconds / max(found.old_p95_seconds, 1e-9)
    # Of some milliseconds, the rest of the machine's work makes many times as many.
    is_quick = found.new_p95_seconds <= settings.quick_search_seconds
    if ratio > settings.max_latency_ratio and not is_quick:
        reasons.append(
            f"a search takes {1000 * found.new_p95_seconds:.1f} ms (p95) in place of "
            f"{1000 * found.old_p95_seconds:.1f} ms: {ratio:.1f} times as long, "
            f"{settings.max_latency_ratio:g} are allowed (max_latency_ratio)"
        )
    bytes_ratio = found.new_bytes / max(found.old_bytes, 1)
    if bytes_ratio > settings.max_bytes_ratio:
        reasons.append(
            f"a vector has {found.new_bytes:,} bytes in place of {found.old_bytes:,}: {bytes_ratio:.1f} "
            f"times as many, {settings.max_bytes_ratio:g} are allowed (max_bytes_ratio)"
        )
    return reasons


def _recall(found: Measured, settings: GateSettings) -> Sequence[str]:
    """The loss is what cannot be ruled out: the lower end of the interval of the difference.

    With few questions it is the difference itself.
    """
    difference = found.new_recall - found.old_recall
    is_few = found.questions < settings.few_questions
    if (difference if is_few else found.difference_low) >= -settings.max_recall_loss:
        return ()
    told = (
        f"the new space finds {found.new_recall:.1%} of {found.questions:,} known items among the first "
        f"{found.k}, the old one {found.old_recall:.1%}: the difference is "
        f"{difference:+.1%} (95% {found.difference_low:+.1%} to "
        f"{found.difference_high:+.1%})"
    )
    if is_few or found.difference_high < -settings.max_recall_loss:
        why = f"a loss of more than {settings.max_recall_loss:.1%} (max_recall_loss)"
    else:
        why = (
            f"a loss of more than {settings.max_recall_loss:.1%} (max_recall_loss) cannot be ruled out: ask "
            "more questions (model_switching.gate.questions), if the documents have more"
        )
    return [f"{told}, {why}"]


def as_findings(answers: Answers | None, reasons: Sequence[str]) -> Mapping[str, Any]:
    """Return what is kept with the switch. The worst questions are rows of their own."""
    return {
        "passed": not reasons,
        "reasons": list(reasons),
        "measured": None if answers is None else answers.measured.json_document(),
    }
