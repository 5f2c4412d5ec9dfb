"""The duty that tells how far the switches to other models are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from embedfleet.leader.service import LeaderDuty
from embedfleet.metrics import Metrics
from embedfleet.records import model_switches
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase

SWITCH_REPORT_SECONDS = 15.0
"""The pause between two looks. A look counts the documents of the tenants that are switched."""

_PAUSED = "paused"
_STATES = (*(phase.value for phase in SwitchPhase if phase is not SwitchPhase.ENDED), _PAUSED)
# The documents of these are embedded with the new model now; a paused one is not among them.
_AT_WORK = (SwitchPhase.FILLING, SwitchPhase.CHECKING)


class SwitchReport(LeaderDuty):
    """Sets the gauges of the switches that are under way. Only the leader tells them: the others set 0."""

    name: ClassVar = "report of switches to other models"
    works_again: ClassVar = "the switches are told again"

    def __init__(self, *, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics

    async def step(self) -> None:
        running = await self._database.read(model_switches.running)
        states = Counter(_PAUSED if one.paused else one.phase.value for one in running)
        left = 0
        for one in running:
            if one.phase in _AT_WORK and not one.paused:
                # A unit for each, as a count of many documents takes a while.
                left += await self._database.read(partial(model_switches.count_lacking, switch=one))
        self._tell(states, left)

    def deposed(self) -> None:
        self._tell({}, 0)

    def _tell(self, states: Mapping[str, int], left: int) -> None:
        for state in _STATES:
            self._metrics.model_switches.labels(state).set(states.get(state, 0))
        self._metrics.model_switch_remaining_documents.set(left)
