"""The duty that drops the answers to requests with an idempotency key that are too old to be given again."""

from __future__ import annotations

from typing import ClassVar

from embedfleet.clock import Clock
from embedfleet.leader.service import LeaderDuty
from embedfleet.records import idempotency
from embedfleet.sql.database import Database

FORGET_SECONDS = 300.0
"""The pause between two looks. A row that is some minutes too old is not given as an answer."""
_ROWS_PER_UNIT = 500
"""The most rows that one transaction drops, so that others need not wait long for it."""


class AnswerForgetting(LeaderDuty):
    """Drops rows that are older than `idempotency.KEPT_SECONDS`."""

    name: ClassVar = "answer forgetting"
    rests_first: ClassVar = True  # a start has more urgent things to do
    works_again: ClassVar = "old answers to repeated requests are dropped again"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def step(self) -> None:
        before = self._clock.now() - idempotency.KEPT_SECONDS
        while await self._database.write(
            lambda conn: idempotency.drop_old(conn, _ROWS_PER_UNIT, before=before)
        ):
            pass

    def pause_after_failure_seconds(self) -> float:
        """Wait as long as after a success: rows that stay for some minutes more do no harm."""
        return FORGET_SECONDS
