"""How the state of the traffic and its changes are shown to people."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from embedfleet.cli.output import readable_time, say, say_table
from embedfleet.cli.quantities import readable_percent
from embedfleet.cli.shadow_report import summary
from embedfleet.clock import utc
from embedfleet.wording import readable_fraction, readable_seconds

if TYPE_CHECKING:
    from embedfleet.traffic.schemas import PathFigures, TrafficChange, TrafficStatus
    from embedfleet.traffic.state import Plan, TrafficState

_NAMES = {"sync": "old path", "async": "fleet"}


def say_status(status: TrafficStatus) -> None:
    """Write what `traffic status` shows."""
    say_state(status.state)
    if status.guard is not None:
        say(f"guard        {status.guard.action}: {status.guard.reason}")
    if status.change is not None:
        say(f"last change  {change_line(status.change)}")
    if status.shadow is not None:
        say(f"shadow       {summary(status.shadow)}")
    for path, number in sorted(status.pending_removals.items()):
        say(f"to remove    {number:,} documents from the {_NAMES[path]}")
    if not status.paths:
        say(f"no request in the last {readable_seconds(status.window_seconds)}")
        return
    say(f"in the last {readable_seconds(status.window_seconds)}:")
    headings = ("path", "requests", "errors", "fallbacks", "chunks", "p50", "p99")
    rows = [_cells(path, status.paths[path]) for path in _NAMES if path in status.paths]
    say_table(headings, rows, right=range(1, 7))


def say_state(state: TrafficState) -> None:
    """Write which requests go where."""
    say(f"to the fleet {readable_percent(state.percent)} of the {state.sticky_by}s")
    for words, tenants, types in (
        ("allowed", state.allow_tenants, state.allow_content_types),
        ("denied", state.deny_tenants, state.deny_content_types),
    ):
        if tenants or types:
            say(f"{words:<12} {'; '.join([*_named('tenants', tenants), *_named('types', types)])}")
    if state.plan is not None:
        _say_plan(state.plan)
    if state.retirement is not None:
        until = readable_time(utc(state.retirement.final_at))
        say(f"old path     retired {readable_time(utc(state.retirement.at))}, can be restored until {until}")


def _say_plan(plan: Plan) -> None:
    steps = (
        f"[{readable_percent(step)}]" if number == plan.step else readable_percent(step)
        for number, step in enumerate(plan.steps)
    )
    how = plan.outcome.value if plan.outcome is not None else "paused" if plan.paused else "under way"
    say(f"plan         {' '.join(steps)}: {how}, this step since {readable_time(utc(plan.since))}")
    say(
        f"limits       each step {readable_seconds(plan.hold_seconds)} at least, errors "
        f"{readable_fraction(plan.max_error_rate)}, p99 {plan.max_p99_ratio:g} x the old path's"
    )


def change_line(change: TrafficChange) -> str:
    """Return a change in one line."""
    why = f": {change.reason}" if change.reason else ""
    share = readable_percent(change.state.percent)
    return f"{change.change_id}  {readable_time(change.at)}  {change.actor}  {change.action}  {share}{why}"


def _named(words: str, names: Collection[str]) -> list[str]:
    return [f"{words} {', '.join(sorted(names))}"] if names else []


def _cells(path: str, figures: PathFigures) -> tuple[str, ...]:
    return (
        _NAMES[path],
        f"{figures.requests:,}",
        f"{figures.errors:,}",
        f"{figures.fallbacks:,}",
        f"{figures.chunks:,}",
        _time(figures.p50_seconds),
        _time(figures.p99_seconds),
    )


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else readable_seconds(seconds)
