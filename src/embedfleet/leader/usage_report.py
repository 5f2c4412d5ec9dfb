"""The duty that tells from the ledger what tenants have submitted today, in tokens and in money."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.metrics import Metrics
from embedfleet.records import usage
from embedfleet.records.scope import EveryTenant
from embedfleet.settings import PriceSettings
from embedfleet.sql.database import Database

REPORT_SECONDS = 30.0
"""The pause between two looks at the rows of the day: one for each tenant, model and key."""


class UsageReport(LeaderDuty):
    """Sets the gauges of the day's usage (UTC). Only the leader tells it: the others have no series of it."""

    name: ClassVar = "usage report"
    works_again: ClassVar = "the usage of the day is told again"

    def __init__(self, *, database: Database, metrics: Metrics, clock: Clock, prices: PriceSettings) -> None:
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._prices = prices

    async def step(self) -> None:
        today = usage.utc_day(self._clock.now())
        lines = await self._database.read(lambda conn: usage.between(conn, EveryTenant(), today, today))
        tokens: Counter[tuple[str, str]] = Counter()
        for _day, line, amount in lines:
            tokens[line.tenant, line.model] += amount.tokens
        costs = {
            (tenant, model): cost
            for (tenant, model), number in tokens.items()
            if (cost := self._prices.cost(model, number)) is not None
        }
        self._metrics.tell_usage(tokens, costs)

    def deposed(self) -> None:
        self._metrics.tell_usage({}, {})
