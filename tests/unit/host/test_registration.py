"""What orchestrators know of one another."""

from __future__ import annotations

from embedfleet.host.registration import Peers
from embedfleet.queue_schemas import Stage
from embedfleet.records.fleet import PoolReport, RunningOrchestrator


def peer(name: str, **pools: PoolReport) -> RunningOrchestrator:
    return RunningOrchestrator(name, name, 1, 0.0, 0.0, pools, has_orders=False)


def test_only_hosts_that_may_serve_a_stage_share_its_backlog() -> None:
    none = PoolReport(workers=0, target=0, most=0)
    asleep = PoolReport(workers=0, target=0, most=4)
    busy = PoolReport(workers=3, target=3, most=4, rate=100.0)
    slow = PoolReport(workers=1, target=1, most=1, rate=50.0)
    peers = Peers([peer("a", embedding=busy), peer("b", embedding=slow), peer("c", embedding=none)])
    assert peers.hosts(Stage.EMBEDDING) == 2
    assert peers.workers(Stage.EMBEDDING) == 4
    assert peers.rate(Stage.EMBEDDING) == 75.0
    assert Peers([peer("a", embedding=asleep)]).hosts(Stage.EMBEDDING) == 1
    assert Peers().hosts(Stage.EMBEDDING) == 1, "before the first heartbeat: at least this one"
    assert Peers().rate(Stage.EMBEDDING) is None
