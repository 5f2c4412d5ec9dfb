"""The verdict on a shadow run: a table of what was found, and what the rule makes of it."""

from __future__ import annotations

import re

import pytest

from embedfleet.errors import InvalidRequest
from embedfleet.traffic.latencies import class_of
from embedfleet.traffic.shadow_schemas import ShadowFindings, ShadowRule, Verdict
from embedfleet.traffic.verdict import judge

RULE = ShadowRule(requests=100, max_mismatch_rate=0.02, max_error_rate=0.05, max_p99_ratio=1.5)
SLOW = {class_of(0.1): 100}
TWICE = {class_of(0.2): 100}


def found(requests: int, mismatched: int = 0, errors: int = 0, **more: object) -> ShadowFindings:
    latencies = {"old_latencies": SLOW, "new_latencies": SLOW} | more
    return ShadowFindings(requests=requests, mismatched=mismatched, errors=errors, **latencies)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("findings", "verdict", "reason"),
    [
        (found(99), None, ""),
        (found(100), Verdict.PASSED, "of 100 requests 0 failed in the fleet and 0 differ"),
        (found(100, mismatched=2), Verdict.PASSED, "2 differ"),
        (found(100, mismatched=3), Verdict.FAILED, "3 of 100 requests differ: 3.00%, the most is 2.00%"),
        (found(100, errors=5), Verdict.PASSED, "5 failed"),
        (found(100, errors=6), Verdict.FAILED, "6 of 100 requests failed in the fleet: 6.00%"),
        # Of the 96 that both answered, 2 are more than 2%.
        (found(100, errors=4, mismatched=2), Verdict.FAILED, "2 of 96 requests differ"),
        # Before the number is reached, only what no further answer could mend.
        (found(10, mismatched=2), None, ""),
        (found(10, mismatched=3), Verdict.FAILED, "3 requests differ after 10, and 0.02 of 100 allows 2"),
        (found(10, errors=6), Verdict.FAILED, "6 requests failed in the fleet after 10"),
        # Those under way when the number was reached count too.
        (found(120, mismatched=2), Verdict.PASSED, ""),
        (found(100, new_latencies=TWICE), Verdict.FAILED, "1.98 times that of the old path, the most is 1.5"),
        (found(100, old_errors=50, skipped=500), Verdict.PASSED, ""),
    ],
)
def test_the_rule_decides(findings: ShadowFindings, verdict: Verdict | None, reason: str) -> None:
    judged = judge(RULE, findings, is_over=False)
    if verdict is None:
        assert judged is None
        over = judge(RULE, findings, is_over=True)
        assert over is not None
        assert over.verdict is Verdict.UNDECIDED
        assert f"it has {findings.requests} requests, and the rule asks for 100" in over.reason
    else:
        assert judged is not None
        assert judged == judge(RULE, findings, is_over=True)
        assert judged.verdict is verdict
        assert re.search(reason, judged.reason), judged.reason


def test_latency_decides_only_if_the_rule_says_so() -> None:
    rule = ShadowRule(requests=100)
    judged = judge(rule, found(100, new_latencies=TWICE), is_over=False)
    assert judged is not None
    assert judged.verdict is Verdict.PASSED


def test_a_fleet_that_fails_all_cannot_pass() -> None:
    rule = ShadowRule(requests=10, max_error_rate=1.0)
    judged = judge(rule, found(10, errors=10), is_over=False)
    assert judged is not None
    assert (judged.verdict, judged.reason) == (Verdict.FAILED, "all 10 requests failed in the fleet")


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests": 0},
        {"requests": 1, "max_error_rate": 1.5},
        {"requests": 1, "max_p99": 2},
        {"requests": 99, "max_p99_ratio": 2},
    ],
)
def test_a_wrong_rule_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        ShadowRule.model_validate(wrong)


def test_findings_add_up() -> None:
    some = ShadowFindings(requests=2, differences={"cosine": 1}, old_latencies={3: 2}, skipped=1)
    more = ShadowFindings(requests=1, errors=1, differences={"cosine": 1, "failed": 1}, old_latencies={4: 1})
    assert some.plus(more) == ShadowFindings(
        requests=3,
        errors=1,
        differences={"cosine": 2, "failed": 1},
        old_latencies={3: 2, 4: 1},
        skipped=1,
    )
    assert ShadowFindings.model_validate_json(some.plus(more).model_dump_json()) == some.plus(more)
