"""The duty that moves the vectors to another store."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.leader.service import LeaderDuty
from embedfleet.store_moving.mover import StoreMover

MOVE_SECONDS = 0.25
"""The least time between two steps, so that a store that is kept in step gets rows together."""


class StoreMoving(LeaderDuty):
    """Takes the move that is under way on. Of two leaders at once, one finds the mover's lock held."""

    name: ClassVar = "move of the vectors"
    works_again: ClassVar = "the vectors are moved on"
    stops_in_mid_step: ClassVar = True  # every part of a step may be repeated

    def __init__(self, mover: StoreMover) -> None:
        self._mover = mover

    async def step(self) -> None:
        await self._mover.step()

    def deposed(self) -> None:
        self._mover.forget()
