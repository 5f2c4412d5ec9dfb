"""How far switches to other models are, as the metrics tell it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from embedfleet.leader.switch_report import SwitchReport
from embedfleet.metrics import Metrics
from embedfleet.records import collections, model_switches
from embedfleet.records.collections import Wanted
from embedfleet.records.model_switches import NewSwitch
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase

SWITCHES: dict[str, dict[str, object]] = {
    "a": {},
    "b": {"paused": True},
    "c": {"phase": SwitchPhase.REFUSED},
    "d": {"phase": SwitchPhase.REFUSED},
    "e": {"phase": SwitchPhase.ENDED, "running": None},
}


def put(conn: Connection) -> None:
    for tenant, like in SWITCHES.items():
        wanted = [Wanted(tenant, name, name, 4) for name in ("old", "new")]
        old, new = collections.ensure(conn, wanted).values()
        begun = model_switches.begin(conn, NewSwitch("c", tenant, old, new, 100.0, "tenant"), 0.0)
        assert begun is not None
        model_switches.change(conn, begun, **{"most_jobs": 1, **like})


async def test_the_gauges_count_switches_by_phase_and_only_the_leader_tells_them(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'switches.db'}", synchronous="normal")
    await database.open()
    metrics = Metrics()
    duty = SwitchReport(database=database, metrics=metrics)

    def told() -> dict[str, float | None]:
        name = "embedding_model_switches"
        states = ("filling", "paused", "refused", "serving")
        return {one: metrics.registry.get_sample_value(name, {"phase": one}) for one in states}

    await database.write(put)
    await duty.step()
    assert told() == {"filling": 1, "paused": 1, "refused": 2, "serving": 0}
    assert metrics.registry.get_sample_value("embedding_model_switch_remaining_documents") == 0
    duty.deposed()
    assert set(told().values()) == {0}
    await database.close()
