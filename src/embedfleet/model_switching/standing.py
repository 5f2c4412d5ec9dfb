"""How a switch stands: its progress, its end, what can be ordered now, and a sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from embedfleet.eta import CHARS_PER_TOKEN, two_digits
from embedfleet.lifecycle.estimates import Pace, pace_of_past
from embedfleet.model_switching.schemas import SwitchOrder, SwitchProgress
from embedfleet.records.model_switches import ModelSwitch, SwitchCounts
from embedfleet.sql.states import SwitchPhase
from embedfleet.wording import number_of, readable_seconds

_SECONDS_PER_DAY = 86_400.0


def progress_of(
    switch: ModelSwitch,
    counts: SwitchCounts,
    past: Sequence[tuple[float, float, int]],
    failed_because: str | None = None,
) -> SwitchProgress:
    """Return how far the switch is. `past` are (begun, ended, tokens) of its latest jobs.

    `failed_because`: the reason that most of its failed jobs have.

    There is no time left to tell while it is paused, and of documents that have failed.
    """
    slowed = switch.findings.get("pace") if switch.phase is SwitchPhase.FILLING else None
    pace = pace_of_past(past) if slowed is None else _pace_with_rests(past)
    left = counts.documents - counts.there
    only_failed = not counts.under_way and left <= counts.failed
    seconds = None
    if not left:
        seconds = 0.0
    elif pace is not None and not switch.paused and not only_failed:
        seconds = two_digits(counts.chars_left / CHARS_PER_TOKEN / pace.tokens_per_second)
    return SwitchProgress(
        documents=counts.documents,
        there=counts.there,
        under_way=counts.under_way,
        failed=counts.failed,
        failed_because=failed_because,
        share=counts.there / counts.documents if counts.documents else 1.0,
        tokens_per_second=None if pace is None else two_digits(pace.tokens_per_second),
        seconds_left=seconds,
        jobs_beside_searches=None if slowed is None else slowed["jobs"],
    )


def _pace_with_rests(past: Sequence[tuple[float, float, int]]) -> Pace | None:
    """Return the pace of jobs between which the backfill rests for searches: the rests count."""
    if not past:
        return None
    span = max(ended for _, ended, _ in past) - min(begun for begun, _, _ in past)
    return pace_of_past([(0.0, span, sum(tokens for *_, tokens in past))])


def kept_until(switch: ModelSwitch, keep_days: float) -> float | None:
    """Return when the old space is retired by itself; None: not as things are."""
    if switch.phase is not SwitchPhase.SERVING or switch.switched_at is None:
        return None
    return switch.switched_at + keep_days * _SECONDS_PER_DAY


def orders_now(switch: ModelSwitch) -> tuple[SwitchOrder, ...]:
    """Return what can be ordered of the switch as it is."""
    if switch.phase in (SwitchPhase.RETIRING, SwitchPhase.ENDED):
        return ()
    found = [SwitchOrder.RESUME if switch.paused else SwitchOrder.PAUSE]
    if switch.is_trial:  # its experiment decides the rest
        return (*found, SwitchOrder.THROTTLE)
    found += [SwitchOrder.THROTTLE, SwitchOrder.SERVE]
    if switch.phase is SwitchPhase.SERVING:
        found += [SwitchOrder.ROLLBACK] if switch.percent else []
        found += [] if 0 < switch.percent < 100 else [SwitchOrder.RETIRE]
        return tuple(found)
    if not switch.forced:
        found += [SwitchOrder.FORCE]
    if switch.phase is SwitchPhase.REFUSED:
        found += [SwitchOrder.RECHECK]
    return (*found, SwitchOrder.RETIRE)


def sentence(switch: ModelSwitch, progress: SwitchProgress | None, until: str | None) -> str:
    """Say how the switch stands, and what is next. `until`: when the old space is retired by itself."""
    new, old = switch.new.name, switch.old.name
    match switch.phase:
        case SwitchPhase.FILLING:
            return _filling(switch, progress)
        case SwitchPhase.CHECKING:
            return (
                f"the vectors of `{new}` are read back and the gate asks both spaces, while `{old}` answers; "
                "wait for its decision"
            )
        case SwitchPhase.REFUSED:
            return (
                f"the gate has refused `{new}`, and `{old}` answers all queries: read the reasons, then have "
                "it checked again, force it, or retire the new space"
            )
        case SwitchPhase.SERVING:
            return _serving(switch, until)
        case SwitchPhase.RETIRING:
            return (
                f"the space of `{switch.other.name}` is emptied, and `{switch.main.name}` answers all "
                "queries; wait for the receipt"
            )
        case SwitchPhase.ENDED:
            return f"it has ended: `{switch.main.name}` answers all queries"


def _filling(switch: ModelSwitch, progress: SwitchProgress | None) -> str:
    new, old = switch.new.name, switch.old.name
    if switch.is_trial:
        return (
            f"`{new}` is on trial for experiment `{switch.trial_of}`: its space is filled and kept in step, "
            f"and `{old}` answers; promote or end the experiment"
        )
    if switch.paused:
        return (
            f"paused: only what is submitted is embedded with `{new}` too, and `{old}` answers; resume it to "
            "go on"
        )
    if progress is None or progress.seconds_left is None:
        left = ""
    else:
        left = f", about {readable_seconds(progress.seconds_left)} more"
    if progress is not None and progress.failed and not progress.under_way:
        failed = number_of(progress.failed, "document")
        return f"{failed} could not be embedded with `{new}`, which the gate is told; `{old}` answers"
    slowed = ""
    if progress is not None and progress.jobs_beside_searches is not None:
        slowed = f", slowed by searches to {progress.jobs_beside_searches:,} at a time"
    return (
        f"the documents are embedded with `{new}`{left}{slowed}, while `{old}` answers; then the gate decides"
    )


def _serving(switch: ModelSwitch, until: str | None) -> str:
    new, old = switch.new.name, switch.old.name
    if switch.percent >= 100:
        return (
            f"`{new}` answers all queries, and the space of `{old}` is kept in step until {until}: until "
            "it is retired, a rollback is instant"
        )
    if switch.percent > 0:
        return (
            f"`{new}` answers {switch.percent:g}% of the queries, and `{old}` the others; serve more, or "
            "roll it back"
        )
    return (
        f"`{old}` answers all queries, and the space of `{new}` has passed the gate and is kept in step: "
        "serve queries from it, or retire it"
    )
