"""One look of the guard: it judges the step of the plan under way, and makes the change that follows."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import EmbedfleetError
from embedfleet.records import traffic_counts
from embedfleet.records.traffic_counts import Counts
from embedfleet.sql.database import Database
from embedfleet.traffic.audited_changes import Author, change_and_audit
from embedfleet.traffic.changes import present_state
from embedfleet.traffic.guard import Action, Decision, Evidence, after, decide
from embedfleet.traffic.paths import Path
from embedfleet.traffic.state import Plan, TrafficState
from embedfleet.trouble import Trouble
from embedfleet.waiting import wait_briefly

GUARD = "guard"
"""The actor of the changes that the guard makes."""

LOOK_SECONDS = 1.0
"""The pause between two looks. The processes that route write their counts about as often."""


class Guarding:
    """Looks after the plan under way, about once a second. A `Service`.

    The leader does the same. A process that routes does it too, because the fleet may be down with its
    leader, and that is when requests must go back.
    """

    name: ClassVar = "traffic guard"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._trouble = Trouble(over="the plan of the traffic is looked after again")

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await wait_briefly(stop, LOOK_SECONDS)
            try:
                await guard_step(self._database, self._clock)
            except EmbedfleetError as exc:
                self._trouble.note(exc)
            else:
                self._trouble.clear()


async def guard_step(database: Database, clock: Clock) -> TrafficState | None:
    """Judge the present step, and make the change that follows. Return the new state; None: nothing changed.

    It is harmless if several processes do it at once: one of them makes the change. A person's change that
    comes in between holds, and this one is not made.
    """

    def look(conn: Connection) -> tuple[TrafficState, Plan, Decision] | None:
        state = present_state(conn)
        plan = state.running_plan
        return None if plan is None else (state, plan, decision_now(conn, plan, clock.now()))

    found = await database.read(look)
    if found is None:
        return None
    state, plan, decision = found
    if decision.action is Action.HOLD:
        return None
    now = clock.now()
    next_state = after(state, plan, decision, now)
    author = Author(GUARD, decision.action, decision.reason)
    made = await database.write(lambda conn: change_and_audit(conn, state, next_state, author, now))
    if made is not None:
        level = "WARNING" if decision.action is Action.BACK else "INFO"
        logger.log(level, "{:g}% go to the fleet now: {}", made.percent, decision.reason)
    return made


def decision_now(conn: Connection, plan: Plan, now: float) -> Decision:
    """Return what the guard makes of the requests that were decided in the plan's present step."""
    found = traffic_counts.sums(conn, first_change=plan.first_change_id)
    evidence = Evidence(new=found.get(Path.ASYNC, Counts()), old=found.get(Path.SYNC, Counts()))
    return decide(plan, evidence, now)
