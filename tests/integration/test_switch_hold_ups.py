"""Why a switch does not go on is kept with it, and does not keep the leader at work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedfleet.model_switching import orders
from embedfleet.model_switching.hold_ups import HoldUps
from embedfleet.model_switching.orders import Wanted
from embedfleet.queue_schemas import Stage
from support.model_switches import MODELS, NEW, switch_of
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.system import TENANT, Configure


@pytest.fixture
def instants() -> Iterator[float]:
    """Of a clock that is set by hand."""
    return iter((100.0, 100.5, 100.6, 100.7, 103.0))


async def test_a_reason_whose_words_change_in_each_step_is_written_now_and_then(
    configure: Configure, instants: Iterator[float]
) -> None:
    """A write of the leader brings its next step, which would bring the next write."""
    async with stages_by_hand(configure(models=MODELS)) as stages:
        await begin(stages)
        hold_ups = HoldUps(stages.system.database, stages.system.broker, instants.__next__)

        async def told(reason: str | None) -> str | None:
            await hold_ups.tell(await switch_of(stages.system.database), reason)
            found: str | None = (await switch_of(stages.system.database)).findings.get("waits_for")
            return found

        assert await told("no answer after 1.1 s") == "no answer after 1.1 s"
        assert await told("no answer after 1.2 s") == "no answer after 1.1 s"
        assert await told(None) is None, "that it goes on is written at once"
        assert await told("no answer after 1.3 s") is None
        assert await told("no answer after 1.4 s") == "no answer after 1.4 s"


async def begin(stages: StagesByHand) -> None:
    await stages.submit([(TENANT, "1", "The mill stands still.")])
    for stage in (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE):
        assert await stages.do(stage, 1) == 1
    wanted = Wanted(stages.system.catalogue.info(NEW))
    await stages.system.database.write(lambda conn: orders.begin(conn, [TENANT], wanted, 1.0))
