"""An orchestrator that was killed or is frozen is named, in the log and in the listing of the pools."""

from __future__ import annotations

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import SystemClock
from embedfleet.records import fleet
from embedfleet.settings import Settings
from support.system import running


def announce_others(conn: Connection) -> None:
    """Three orchestrators of other hosts, that were last seen at different times."""
    now = SystemClock().now()
    ages = {"alive": 0.0, "lost": fleet.SILENT_SECONDS + 10, "long ago": fleet.LOST_SECONDS + 10}
    for name, age in ages.items():
        fleet.announce(conn, name, host=f"host of {name}", pid=77, now=now - age, pools={})


async def test_a_lost_orchestrator_is_named_once_and_listed_for_an_hour(settings: Settings) -> None:
    async with running(settings) as host:
        await host.system.database.write(announce_others)
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), format="{message}", level="WARNING")
    try:
        async with running(settings) as host:
            now = SystemClock().now()
            _, listed = await host.system.database.read(lambda conn: fleet.running_and_lost(conn, now))
            await host.system.orchestrator._registration.beat()
    finally:
        logger.remove(sink)
    assert [one.orchestrator_id for one in listed] == ["lost"]
    named = [line for line in lines if "is lost" in line]
    assert len(named) == 1
    assert named[0].startswith("the orchestrator on host of lost (pid 77) is lost: silent for ")
