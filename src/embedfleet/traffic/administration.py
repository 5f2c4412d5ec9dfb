"""What operators do with the traffic: they look, move it, plan a climb, go back, and retire the old path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from sqlalchemy import Connection

from embedfleet.clock import Clock, utc
from embedfleet.errors import NotReady, Remedy
from embedfleet.records import removals, shadows, traffic, traffic_counts
from embedfleet.records.cursors import Page, require_limit
from embedfleet.records.traffic_counts import Counts
from embedfleet.sql.database import Database
from embedfleet.traffic.audited_changes import Author, change_and_audit, described
from embedfleet.traffic.changes import present_state
from embedfleet.traffic.guard import p99_seconds
from embedfleet.traffic.guarding import decision_now
from embedfleet.traffic.latencies import quantile_seconds
from embedfleet.traffic.orders import (
    StickyBy,
    checked_names,
    checked_percent,
    checked_plan,
    checked_reason,
    checked_seconds,
    checked_sticky_by,
)
from embedfleet.traffic.paths import Path
from embedfleet.traffic.retirement import missing_for_retirement
from embedfleet.traffic.schemas import GuardView, PathFigures, TrafficChange, TrafficStatus
from embedfleet.traffic.shadow_administration import shadow_info
from embedfleet.traffic.state import Plan, Retirement, TrafficState

RETIRE_AFTER_SECONDS = 7 * 86_400.0
"""A week holds the load of every weekday."""
RESTORABLE_SECONDS = 30 * 86_400.0
"""How long the old path can be taken back after it was retired."""
WINDOW_SECONDS = 300.0
"""The figures of the paths are of this time until now."""
# From requests of the old path within this time, a plan knows its p99 before its first step has any.
_BASELINE_SECONDS = 3_600.0


class TrafficAdministration:
    """The traffic of the whole system, for operators.

    `actor` is written into the history and into the audit log: the prefix of an API key, or `audit.LOCAL`.
    A change holds in every process within a second. A method that changes something returns the state after
    it, and changes nothing if the state is already so. It raises NotReady if another change came first, and,
    while the old path is retired, for everything but `restore`.

    Any method may raise DatabaseUnavailable; a method that changes something may raise StorageFull.
    """

    def __init__(self, database: Database, clock: Clock, *, actor: str) -> None:
        self._database = database
        self._clock = clock
        self._actor = actor

    async def show(self, *, window_seconds: float = WINDOW_SECONDS) -> TrafficStatus:
        """Return the state, who made it and why, what the guard makes of it, and how both paths answer.

        The figures of the paths are of the last `window_seconds`.
        """
        now = self._clock.now()

        def look(conn: Connection) -> TrafficStatus:
            change = traffic.newest(conn)
            state = present_state(conn)
            plan = state.running_plan
            decision = None if plan is None else decision_now(conn, plan, now)
            counts = traffic_counts.sums(conn, since=now - window_seconds)
            running = shadows.running(conn)
            return TrafficStatus(
                state=state,
                change=None if change is None else described(change),
                guard=None if decision is None else GuardView(action=decision.action, reason=decision.reason),
                window_seconds=window_seconds,
                paths={path: _figures(counts[path]) for path in sorted(counts)},
                pending_removals=removals.numbers(conn),
                shadow=None if running is None else shadow_info(running),
            )

        return await self._database.read(look)

    async def history(self, *, limit: int = 100, after: str | None = None) -> Page[TrafficChange]:
        """Return up to `limit` changes, newest first.

        For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
        """
        require_limit(limit)
        found = await self._database.read(lambda conn: traffic.history(conn, limit=limit, after=after))
        return Page(map(described, found), next_cursor=found.next_cursor)

    async def changes_after(self, change_id: int, *, limit: int = 100) -> list[TrafficChange]:
        """Return up to `limit` changes above this number, oldest first. Above 0 are all."""
        require_limit(limit)
        found = await self._database.read(lambda conn: traffic.changes_after(conn, change_id, limit))
        return [described(one) for one in found]

    async def follow(self, *, after: int = 0) -> AsyncIterator[TrafficChange]:
        """Yield the changes above this number, then each new one. It never ends by itself."""

        async def look() -> list[TrafficChange] | None:
            return await self.changes_after(after) or None

        while True:
            for change in await self._database.until(look):
                after = change.change_id
                yield change

    async def set(
        self,
        *,
        percent: float | None = None,
        sticky_by: StickyBy | None = None,
        allow_tenants: Iterable[str] | None = None,
        deny_tenants: Iterable[str] | None = None,
        allow_content_types: Iterable[str] | None = None,
        deny_content_types: Iterable[str] | None = None,
        reason: str | None = None,
        expected_change_id: int | None = None,
    ) -> TrafficState:
        """Set the percentage, what it is sticky by, or lists. What is None stays; a list takes the place of
        the one before.

        A percentage ends the plan under way. Without a percentage, the present step of the plan begins again,
        as what it was judged by was of other requests. With `expected_change_id`, NotReady is raised unless
        that change still holds.

        Raises InvalidRequest for a value out of range.
        """
        lists = {
            "allow_tenants": allow_tenants,
            "deny_tenants": deny_tenants,
            "allow_content_types": allow_content_types,
            "deny_content_types": deny_content_types,
        }
        given: dict[str, object] = {
            name: checked_names(name, names) for name, names in lists.items() if names is not None
        }
        if sticky_by is not None:
            given["sticky_by"] = checked_sticky_by(sticky_by)
        if percent is not None:
            given["percent"] = checked_percent("percent", percent)

        def set_them(_: Connection, state: TrafficState, now: float) -> TrafficState:
            if expected_change_id not in (None, state.change_id):
                raise _overtaken()
            wanted = state.model_copy(update=given)
            if percent is not None:
                # A plan that has ended is a record of why the percentage is what it is: that is over too.
                return wanted.model_copy(update={"plan": None})
            if wanted == state or state.running_plan is None:
                return wanted
            return wanted.model_copy(update={"plan": _begun_again(state, state.running_plan, now)})

        return await self._change("set", reason, set_them)

    async def plan(
        self,
        steps: Sequence[float],
        *,
        hold_seconds: float,
        max_error_rate: float,
        max_p99_ratio: float,
        reason: str | None = None,
    ) -> TrafficState:
        """Begin to climb by these percentages, which the guard then does by itself. It replaces a plan that
        is under way.

        Each step holds for `hold_seconds`, and longer if too few requests came to tell that it is good (see
        `traffic.guard`). The limits are a fraction (0.01 is 1%), and the fleet's p99 over the old path's.

        Raises InvalidRequest for a value out of range, for steps that do not rise, and for a first step below
        the present percentage, which would move tenants back.
        """

        def begin(conn: Connection, state: TrafficState, now: float) -> TrafficState:
            plan = checked_plan(
                steps,
                percent_now=state.percent,
                hold_seconds=hold_seconds,
                max_error_rate=max_error_rate,
                max_p99_ratio=max_p99_ratio,
                begins_at=now,
                first_change_id=state.change_id + 1,
            )
            old = traffic_counts.sums(conn, since=now - _BASELINE_SECONDS).get(Path.SYNC, Counts())
            begun = plan.model_copy(update={"old_p99_seconds": p99_seconds(old)})
            return state.model_copy(update={"percent": plan.steps[0], "plan": begun})

        return await self._change("plan", reason, begin)

    async def pause(self, *, reason: str | None = None) -> TrafficState:
        """Let the plan stay at its present step. It still goes back if the step is above a limit.

        Raises NotReady if no plan is under way.
        """

        def stay(_: Connection, state: TrafficState, now: float) -> TrafficState:
            plan = _plan_under_way(state).model_copy(update={"paused": True})
            return state.model_copy(update={"plan": plan})

        return await self._change("pause", reason, stay)

    async def resume(self, *, reason: str | None = None) -> TrafficState:
        """Let a paused plan go on. The time of its step begins again; what the step was judged by stays.

        Raises NotReady if no plan is under way.
        """

        def go_on(_: Connection, state: TrafficState, now: float) -> TrafficState:
            plan = _plan_under_way(state)
            if not plan.paused:
                return state
            return state.model_copy(update={"plan": plan.model_copy(update={"paused": False, "since": now})})

        return await self._change("resume", reason, go_on)

    async def rollback(self, *, reason: str | None = None) -> TrafficState:
        """Send every request the old way: 0%, no plan, and no tenant or content type that is allowed."""

        def go_back(_: Connection, state: TrafficState, now: float) -> TrafficState:
            nothing: frozenset[str] = frozenset()
            back = {"percent": 0.0, "plan": None, "allow_tenants": nothing, "allow_content_types": nothing}
            return state.model_copy(update=back)

        return await self._change("rollback", reason, go_back)

    async def retire(
        self,
        *,
        after_seconds: float = RETIRE_AFTER_SECONDS,
        restorable_seconds: float = RESTORABLE_SECONDS,
        reason: str | None = None,
    ) -> TrafficState:
        """Retire the old path: from then on it raises PathRetired. `restore` takes that back for
        `restorable_seconds`.

        Raises NotReady, with all that is missing, unless for `after_seconds` every request went to the fleet
        and none fell back.
        """
        must_hold = checked_seconds("after_seconds", after_seconds)
        final_after = checked_seconds("restorable_seconds", restorable_seconds)

        def end(conn: Connection, state: TrafficState, now: float) -> TrafficState:
            missing = missing_for_retirement(conn, state, must_hold, now)
            if missing:
                raise NotReady(
                    f"the old path cannot be retired yet: {'; '.join(missing)}", remedy=Remedy.SHOW_TRAFFIC
                )
            retired = Retirement(at=now, final_at=now + final_after)
            return state.model_copy(update={"retirement": retired, "plan": None})

        return await self._change("retire", reason, end)

    async def restore(self, *, reason: str | None = None) -> TrafficState:
        """Take the old path back into use. The percentage stays: further changes move requests to it.

        Raises NotReady if it is not retired, or if the time for that is over.
        """

        def take_back(_: Connection, state: TrafficState, now: float) -> TrafficState:
            if state.retirement is None:
                raise NotReady("the old path is not retired: there is nothing to restore")
            if now >= state.retirement.final_at:
                over = utc(state.retirement.final_at).isoformat(timespec="seconds")
                raise NotReady(f"the old path is retired for good: it could be restored until {over}")
            return state.model_copy(update={"retirement": None})

        return await self._change("restore", reason, take_back, while_retired=True)

    async def _change(
        self,
        action: str,
        reason: str | None,
        make: Callable[[Connection, TrafficState, float], TrafficState],
        *,
        while_retired: bool = False,
    ) -> TrafficState:
        author = Author(self._actor, action, checked_reason(reason))

        def unit(conn: Connection) -> TrafficState:
            now = self._clock.now()
            state = present_state(conn)
            if state.retirement is not None and not while_retired:
                raise NotReady(
                    "the old path is retired: restore it before the traffic is changed",
                    remedy=Remedy.RESTORE_OLD_PATH,
                )
            wanted = make(conn, state, now)
            if wanted == state:
                return state
            made = change_and_audit(conn, state, wanted, author, now)
            if made is None:
                raise _overtaken()
            return made

        return await self._database.write(unit)


def _overtaken() -> NotReady:
    return NotReady(
        "another change of the traffic came first, and nothing was changed: look at it and try again",
        remedy=Remedy.SHOW_TRAFFIC,
    )


def _plan_under_way(state: TrafficState) -> Plan:
    if state.running_plan is None:
        raise NotReady("no plan is under way: begin one first", remedy=Remedy.SHOW_TRAFFIC)
    return state.running_plan


def _begun_again(state: TrafficState, plan: Plan, now: float) -> Plan:
    return plan.model_copy(update={"since": now, "first_change_id": state.change_id + 1})


def _figures(counts: Counts) -> PathFigures:
    return PathFigures(
        requests=counts.requests,
        errors=counts.errors,
        fallbacks=counts.fallbacks,
        chunks=counts.chunks,
        p50_seconds=quantile_seconds(counts.latencies, 0.5),
        p99_seconds=quantile_seconds(counts.latencies, 0.99),
    )
