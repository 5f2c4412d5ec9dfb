"""The duties that compare models, and that forget what people searched and clicked."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.experiments.runner import ExperimentRunner
from embedfleet.leader.service import LeaderDuty

STEP_SECONDS = 0.05
"""The least time between two steps, so that other duties have their turns."""
TRIM_SECONDS = 300.0
"""The pause between two looks. A search that is kept for some minutes too long does no harm."""


class Experiments(LeaderDuty):
    """Carries the experiments on. Of two leaders at once, one finds the runner's lock held."""

    name: ClassVar = "comparisons of models"
    works_again: ClassVar = "the comparisons of models are carried on"
    stops_in_mid_step: ClassVar = True  # every part of a step may be repeated

    def __init__(self, runner: ExperimentRunner) -> None:
        self._runner = runner

    async def step(self) -> None:
        await self._runner.step()


class SearchForgetting(LeaderDuty):
    """Drops searches and clicks that are too old."""

    name: ClassVar = "search forgetting"
    rests_first: ClassVar = True  # a start has more urgent things to do
    works_again: ClassVar = "old searches are dropped again"

    def __init__(self, runner: ExperimentRunner) -> None:
        self._runner = runner

    async def step(self) -> None:
        await self._runner.trim()

    def pause_after_failure_seconds(self) -> float:
        """Wait as long as after a success: rows that stay for some minutes more do no harm."""
        return TRIM_SECONDS
