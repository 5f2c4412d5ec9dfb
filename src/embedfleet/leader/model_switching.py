"""The duty that switches tenants to other models."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.leader.service import LeaderDuty
from embedfleet.model_switching.switcher import ModelSwitcher

SWITCH_SECONDS = 0.25
"""The least time between two steps, so that documents are begun together."""


class ModelSwitching(LeaderDuty):
    """Carries the switches on. Of two leaders at once, one finds the switcher's lock held."""

    name: ClassVar = "switches to other models"
    works_again: ClassVar = "the switches are carried on"
    stops_in_mid_step: ClassVar = True  # every part of a step may be repeated

    def __init__(self, switcher: ModelSwitcher) -> None:
        self._switcher = switcher

    async def step(self) -> None:
        await self._switcher.step()
