"""Decides a shadow run by its rule. It is pure."""

from __future__ import annotations

from dataclasses import dataclass

from embedfleet.traffic.shadow_schemas import ShadowFindings, ShadowRule, Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and its reason in words and numbers."""

    verdict: Verdict
    reason: str


def judge(rule: ShadowRule, found: ShadowFindings, *, is_over: bool) -> Judgement | None:
    """Return the verdict on a run, or None while it is open. `is_over`: it has expired, or is ended by hand.

    The number of requests is fixed in advance, so looking again and again does not bend the verdict. A run
    fails before that only if no further answer could let it pass.
    """
    return _hopeless(rule, found) or _decided(rule, found) or (_undecided(rule, found) if is_over else None)


def _hopeless(rule: ShadowRule, found: ShadowFindings) -> Judgement | None:
    """Fail a run that has more errors or mismatches than all of its requests may have."""
    for name, number, most in (
        ("failed in the fleet", found.errors, rule.max_error_rate),
        ("differ", found.mismatched, rule.max_mismatch_rate),
    ):
        # At most `rule.requests` are compared, so this many is too many whatever follows. The few that are
        # under way when that number is reached are judged by the rates.
        if found.requests < rule.requests and number > most * rule.requests:
            return Judgement(
                Verdict.FAILED,
                f"{number:,} requests {name} after {found.requests:,}, and {most:.3g} of {rule.requests:,} "
                f"allows {int(most * rule.requests):,}",
            )
    return None


def _decided(rule: ShadowRule, found: ShadowFindings) -> Judgement | None:
    if found.requests < rule.requests:
        return None
    for name, number, of, most in (
        ("failed in the fleet", found.errors, found.requests, rule.max_error_rate),
        ("differ", found.mismatched, found.compared, rule.max_mismatch_rate),
    ):
        if number > most * of:
            reason = f"{number:,} of {of:,} requests {name}: {number / of:.2%}, the most is {most:.2%}"
            return Judgement(Verdict.FAILED, reason)
    if not found.compared:
        return Judgement(Verdict.FAILED, f"all {found.requests:,} requests failed in the fleet")
    ratio = found.p99_ratio
    if rule.max_p99_ratio is not None and ratio is not None and ratio > rule.max_p99_ratio:
        reason = f"the p99 of the fleet is {ratio:.2f} times that of the old path, the most is"
        return Judgement(Verdict.FAILED, f"{reason} {rule.max_p99_ratio:g}")
    return Judgement(
        Verdict.PASSED,
        f"of {found.requests:,} requests {found.errors:,} failed in the fleet and {found.mismatched:,} "
        f"differ; the ids of {found.ids_compared:,} chunks and the vectors of {found.vectors_compared:,} "
        f"were compared; the p99 of the fleet is {ratio or 0.0:.2f} times that of the old path",
    )


def _undecided(rule: ShadowRule, found: ShadowFindings) -> Judgement:
    return Judgement(
        Verdict.UNDECIDED, f"it has {found.requests:,} requests, and the rule asks for {rule.requests:,}"
    )
