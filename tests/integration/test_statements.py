"""A claim is the unit: the number of SQL statements of a claim does not grow with its tasks."""

from __future__ import annotations

from collections.abc import Sequence

from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.settings import Settings
from support.databases import on_both_databases
from support.stages_by_hand import StagesByHand, stages_by_hand
from support.statements import statements

TENANTS = 4


async def statements_of(stages: StagesByHand, stage: Stage, tasks: int) -> Sequence[str]:
    """Of one claim of so many tasks."""
    with statements() as executed:
        assert await stages.do(stage, tasks) == tasks
    return [statement.sql.partition("(")[0] for statement in executed]


async def passed_on(stages: StagesByHand, name: str, count: int, version: int = 1) -> list[Sequence[str]]:
    """Documents of one chunk each, of several tenants, on their way. The statements of each stage."""
    texts = [(f"tenant{n % TENANTS}", f"{name}{n}", f"words of {name} {n} {version}") for n in range(count)]
    job_ids = await stages.submit(texts)
    in_turn = (Stage.CHUNKING, Stage.EMBEDDING, Stage.STORAGE)
    executed = [await statements_of(stages, stage, count) for stage in in_turn]
    assert set(await stages.statuses(job_ids)) == {JobStatus.COMPLETED}
    return executed


@on_both_databases
async def test_a_claim_of_many_tasks_has_the_statements_of_one_of_few(settings: Settings) -> None:
    async with stages_by_hand(settings) as stages:
        await passed_on(stages, "first", TENANTS)  # the first use of the model is checked, which writes
        for version in (1, 2):  # a second version also ends the first one
            few = await passed_on(stages, "few", 8, version)
            many = await passed_on(stages, "many", 64, version)
            assert [len(executed) for executed in few] == [len(executed) for executed in many], (few, many)
