"""The bound of fair queuing holds over every interval, whatever is offered and whichever is passed over."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from embedfleet.queue.broker import Task, TenantShare
from embedfleet.queue.ready_tasks import ReadyTasks
from support.examples import examples

TENANTS = "abc"
# Weights whose price per token is a whole number, so that the bound holds without any rounding.
WEIGHTS = [0.01, 0.25, 0.5, 1.0, 2.0, 3.0, 7.0, 10.0, 100.0]

a_tenant = st.sampled_from(TENANTS)
a_cost = st.one_of(st.integers(1, 20), st.integers(1, 1_000_000))
a_share = st.builds(TenantShare, weight=st.sampled_from(WEIGHTS))
some_tenants = st.one_of(st.just(frozenset[str]()), st.frozensets(a_tenant))


@dataclass
class Account:
    """One tenant as seen from outside: what it was given and offers, in tokens / weight."""

    weight: Fraction
    given: Fraction = Fraction(0)
    dearest: Fraction = Fraction(0)
    ready: int = 0


@dataclass
class Gap:
    """Extremes of S1/w1 - S2/w2 since both tenants had work and neither was passed over; their distance is
    the largest difference over any interval in between."""

    lowest: Fraction
    highest: Fraction


class Fairness(RuleBasedStateMachine):
    @initialize(shares=st.fixed_dictionaries(dict.fromkeys(TENANTS, a_share)))
    def open_accounts(self, shares: dict[str, TenantShare]) -> None:
        self.ready = ReadyTasks(interactive_burst=8, shares=shares)
        self.accounts = {
            tenant: Account(Fraction(share.weight).limit_denominator(100)) for tenant, share in shares.items()
        }
        self.gaps: dict[tuple[str, str], Gap] = {}
        self.offered = 0

    @rule(tenant=a_tenant, costs=st.lists(a_cost, min_size=1, max_size=8))
    def offer(self, tenant: str, costs: list[int]) -> None:
        account = self.accounts[tenant]
        for cost in costs:
            self.offered += 1
            self.ready.add(Task(str(self.offered), tenant, "job", cost, b""), self.offered)
            account.dearest = max(account.dearest, cost / account.weight)
        account.ready += len(costs)
        self.follow_intervals()

    @rule(times=st.integers(1, 8), passed_over=some_tenants)
    def serve(self, times: int, passed_over: frozenset[str]) -> None:
        self.follow_intervals(passed_over)
        with self.ready.serving(None, passing_over=passed_over):
            for _ in range(times):
                if self.ready.first() is None:
                    waiting = {tenant for tenant, account in self.accounts.items() if account.ready}
                    assert waiting <= passed_over, "work must not wait"
                    break
                task = self.ready.serve_first()
                assert task.tenant not in passed_over
                account = self.accounts[task.tenant]
                account.given += task.cost / account.weight
                account.ready -= 1
                self.check_bound()
                self.follow_intervals(passed_over)
        self.follow_intervals()

    def check_bound(self) -> None:
        """Goyal's theorem 1, which implies the 2 x dearest cost/weight that is promised."""
        for (first, second), gap in self.gaps.items():
            one, two = self.accounts[first], self.accounts[second]
            difference = one.given - two.given
            gap.lowest, gap.highest = min(gap.lowest, difference), max(gap.highest, difference)
            assert gap.highest - gap.lowest <= one.dearest + two.dearest

    def follow_intervals(self, passed_over: frozenset[str] = frozenset()) -> None:
        for first, second in combinations(TENANTS, 2):
            one, two = self.accounts[first], self.accounts[second]
            if not (one.ready and two.ready) or passed_over & {first, second}:
                self.gaps.pop((first, second), None)
            elif (first, second) not in self.gaps:
                self.gaps[first, second] = Gap(one.given - two.given, one.given - two.given)


TestFairness = Fairness.TestCase
TestFairness.settings = settings(max_examples=examples(200), stateful_step_count=40)
