"""The contract of a leader's duty: steps only while it leads, one after another, whatever fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import ClassVar

import pytest
from loguru import logger

from embedfleet.errors import BrokerUnavailable, DatabaseUnavailable
from embedfleet.leader.service import Every, LeaderDuty, LeaderService

HANG_SECONDS = 60.0


class Lead:
    """An election that the test decides."""

    def __init__(self, *, leads: bool = True) -> None:
        self.leads = leads

    async def stand(self) -> None:
        raise AssertionError("a service does not stand for election")

    async def resign(self) -> None:
        raise AssertionError("a service does not resign")


class Recorded(LeaderDuty):
    """Writes down what is asked of it; `failures` are raised first, one a step."""

    name: ClassVar = "recorded"
    works_again: ClassVar = "it works again"

    def __init__(self, *failures: Exception) -> None:
        self.calls: list[str] = []
        self.stepped = asyncio.Event()
        self.was_deposed = asyncio.Event()
        self._failures = list(failures)

    async def step(self) -> None:
        self.calls.append("step")
        if self._failures:
            raise self._failures.pop(0)
        self.stepped.set()

    async def last_step(self) -> None:
        self.calls.append("last step")

    def deposed(self) -> None:
        self.calls.append("deposed")
        self.was_deposed.set()

    def pause_after_failure_seconds(self) -> float:
        return 0.0

    async def close(self) -> None:
        self.calls.append("close")


class Slow(Recorded):
    """Its step takes for ever."""

    stops_in_mid_step: ClassVar = True

    async def step(self) -> None:
        self.stepped.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.calls.append("cut off")


class Patient(Recorded):
    rests_first: ClassVar = True


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line).rstrip()), format="{level} {message}")
    yield lines
    logger.remove(sink)


async def run_until(
    duty: Recorded, lead: Lead, event: asyncio.Event, *, seconds: float = 3600.0
) -> LeaderService:
    """Run the duty until the event is set, then stop it and wait for its end."""
    service = LeaderService(duty, election=lead, pace=Every(seconds))
    stop = asyncio.Event()
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run(stop))
        await event.wait()
        stop.set()
    return service


async def test_the_leader_takes_a_step_at_once_and_a_last_one_at_the_end() -> None:
    duty = Recorded()
    await run_until(duty, Lead(), duty.stepped)
    assert duty.calls == ["step", "last step", "close"]


async def test_an_orchestrator_that_does_not_lead_takes_no_step() -> None:
    duty = Recorded()
    await run_until(duty, Lead(leads=False), duty.was_deposed)
    assert duty.calls == ["deposed", "close"]


async def test_a_leader_that_is_deposed_takes_no_further_step() -> None:
    lead = Lead()

    class Deposed(Recorded):
        async def step(self) -> None:
            await super().step()
            lead.leads = False

    duty = Deposed()
    await run_until(duty, lead, duty.was_deposed, seconds=0.0)
    assert duty.calls[:2] == ["step", "deposed"]
    assert duty.calls.count("step") == 1
    assert duty.calls[-1] == "close"
    assert "last step" not in duty.calls


async def test_a_step_that_may_end_half_way_ends_when_the_lead_is_lost() -> None:
    lead = Lead()

    class DeposedAtWork(Slow):
        async def step(self) -> None:
            lead.leads = False
            await super().step()

    duty = DeposedAtWork()
    await run_until(duty, lead, duty.was_deposed, seconds=0.0)
    assert duty.calls[:2] == ["cut off", "deposed"]


async def test_a_step_that_fails_is_taken_again_and_said_once(logged: list[str]) -> None:
    duty = Recorded(BrokerUnavailable("redis is away"), DatabaseUnavailable("the database is away"))
    service = await run_until(duty, Lead(), duty.stepped)
    assert duty.calls == ["step", "step", "step", "last step", "close"]
    assert logged[:2] == ["WARNING waiting: redis is away", "WARNING waiting: the database is away"]
    assert len(logged) == 4, "each is over once"
    assert service.trouble.failure is None


async def test_a_defect_ends_the_service_and_passes_through() -> None:
    duty = Recorded(ValueError("a defect"))
    service = LeaderService(duty, election=Lead(), pace=Every(3600.0))
    with pytest.raises(ValueError, match="a defect"):
        await service.run(asyncio.Event())
    assert duty.calls == ["step", "close"]


async def test_the_stop_signal_cuts_off_a_step_that_may_take_long() -> None:
    duty = Slow()
    await run_until(duty, Lead(), duty.stepped)
    assert duty.calls == ["cut off", "last step", "close"]


async def test_a_duty_that_rests_first_takes_no_step_when_it_is_stopped_before() -> None:
    duty = Patient()
    begun = asyncio.Event()
    begun.set()
    await run_until(duty, Lead(), begun)
    assert duty.calls == ["last step", "close"]


async def test_a_last_step_that_fails_is_left_to_the_next_leader() -> None:
    class Failing(Recorded):
        async def last_step(self) -> None:
            raise DatabaseUnavailable("the database is away")

    duty = Failing()
    await run_until(duty, Lead(), duty.stepped)
    assert duty.calls == ["step", "close"]
