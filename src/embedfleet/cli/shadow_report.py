"""How shadow runs are shown to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedfleet.cli.output import readable, readable_time, say, say_table
from embedfleet.wording import readable_fraction, readable_seconds

if TYPE_CHECKING:
    from embedfleet.traffic.shadow_schemas import ShadowInfo, ShadowRule

HEADINGS = ("shadow", "owner", "verdict", "requests", "errors", "different", "p99", "expires or ended")
RIGHT = range(3, 7)
"""The columns of numbers."""


def cells(shadow: ShadowInfo) -> tuple[str, ...]:
    """Return a run as a row of a table."""
    return (
        shadow.shadow_id,
        shadow.owner,
        _verdict(shadow),
        f"{shadow.findings.requests:,} of {shadow.rule.requests:,}",
        f"{shadow.findings.errors:,}",
        f"{shadow.findings.mismatched:,}",
        _ratio(shadow.p99_ratio),
        readable_time(shadow.ended_at or shadow.expires_at),
    )


def summary(shadow: ShadowInfo) -> str:
    """Return a run that goes on in one line."""
    found = shadow.findings
    return (
        f"{shadow.shadow_id} of {shadow.owner}: {found.requests:,} of {shadow.rule.requests:,} requests, "
        f"errors {found.errors:,}{_rate(shadow.error_rate)}, different {found.mismatched:,}"
        f"{_rate(shadow.mismatch_rate)}, until {readable_time(shadow.expires_at)}"
    )


def say_shadow(shadow: ShadowInfo) -> None:
    """Write what is known of a run."""
    found = shadow.findings
    say(f"shadow       {shadow.shadow_id}")
    say(f"owner        {shadow.owner}")
    say(f"rule         {_rule(shadow.rule)}")
    say(f"begun        {readable_time(shadow.begun_at)}, expires {readable_time(shadow.expires_at)}")
    if shadow.ended_at is not None:
        say(f"ended        {readable_time(shadow.ended_at)}")
    say(f"verdict      {_verdict(shadow)}" + (f": {shadow.reason}" if shadow.reason else ""))
    say(f"compared     {found.requests:,} requests, {found.skipped:,} skipped as too many were under way")
    say(f"errors       fleet {found.errors:,}{_rate(shadow.error_rate)}, old path {found.old_errors:,}")
    kinds = f": {readable(found.differences)}" if found.differences else ""
    say(f"different    {found.mismatched:,}{_rate(shadow.mismatch_rate)}{kinds}")
    if shadow.old_p99_seconds is not None and shadow.new_p99_seconds is not None:
        times = (
            f"{readable_seconds(shadow.new_p99_seconds)}, old path {readable_seconds(shadow.old_p99_seconds)}"
        )
        say(f"p99          {times} ({_ratio(shadow.p99_ratio)})")
    if shadow.examples:
        say_table(
            ("time", "tenant", "document", "difference", "details"),
            (
                (readable_time(one.at), one.tenant, one.media_id, one.kind.value, readable(one.details))
                for one in shadow.examples
            ),
        )


def _verdict(shadow: ShadowInfo) -> str:
    return "open" if shadow.verdict is None else shadow.verdict.value


def _rule(rule: ShadowRule) -> str:
    p99 = "" if rule.max_p99_ratio is None else f", p99 at most {rule.max_p99_ratio:g} x the old path's"
    return (
        f"{rule.requests:,} requests; errors at most {readable_fraction(rule.max_error_rate)}, different at "
        f"most {readable_fraction(rule.max_mismatch_rate)} (cosine below {rule.min_cosine:g}){p99}"
    )


def _rate(rate: float | None) -> str:
    return "" if rate is None else f" ({readable_fraction(rate)})"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} x"
