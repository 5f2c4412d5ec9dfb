"""What the leader tells of the day's usage is what the ledger has."""

from __future__ import annotations

from pathlib import Path

from embedfleet.clock import ManualClock
from embedfleet.leader.usage_report import UsageReport
from embedfleet.metrics import Metrics
from embedfleet.metrics.cardinality import OTHER
from embedfleet.records import usage
from embedfleet.records.usage import Amount, Line
from embedfleet.settings import PriceSettings
from embedfleet.sql.database import Database


async def test_the_gauges_follow_the_ledger_of_the_day(tmp_path: Path, clock: ManualClock) -> None:
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}", synchronous="normal")
    await database.open()
    metrics = Metrics(max_tenants=2)
    duty = UsageReport(
        database=database, metrics=metrics, clock=clock, prices=PriceSettings(per_million_tokens={"m": 2.0})
    )

    def told(series: str, tenant: str, model: str = "m") -> float | None:
        labels = {"tenant": tenant, "model": model}
        return metrics.registry.get_sample_value(f"embedding_usage_{series}_today", labels)

    amounts = {
        Line("a", "m", "key1"): Amount(tokens=1_000_000),
        Line("a", "m", "key2"): Amount(tokens=500_000),
        Line("b", "free of charge"): Amount(tokens=7),
        Line("c", "m"): Amount(tokens=1),
        Line("d", "m"): Amount(tokens=2),
    }
    await database.write(lambda conn: usage.reserve(conn, amounts, clock.now()))
    await duty.step()
    assert (told("tokens", "a"), told("cost", "a")) == (1_500_000.0, 3.0)
    assert told("tokens", "b", "free of charge") == 7.0
    assert told("cost", "b", "free of charge") is None
    assert told("tokens", OTHER) == 3.0, "tenants without a label of their own"
    clock.advance(86_400.0)
    await duty.step()
    assert told("tokens", "a") is None, "a new day begins with nothing"
    await database.write(lambda conn: usage.reserve(conn, {Line("a", "m"): Amount(tokens=5)}, clock.now()))
    await duty.step()
    assert told("tokens", "a") == 5.0
    duty.deposed()
    assert (told("tokens", "a"), told("cost", "a")) == (None, None)
    await database.close()
