"""What operators do with switches to other models: they begin them, look, and give orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import InputError, InvalidRequest, NotReady, Remedy, UnknownSwitch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.model_switching import orders
from embedfleet.model_switching.describing import describe
from embedfleet.model_switching.estimate import estimate
from embedfleet.model_switching.orders import Begun, Wanted
from embedfleet.model_switching.schemas import (
    SkippedTenant,
    SwitchesBegun,
    SwitchesOrdered,
    SwitchEstimate,
    SwitchInfo,
    SwitchOrder,
)
from embedfleet.model_switching.selection import Selection, require_campaign_named
from embedfleet.model_switching.standing import orders_now
from embedfleet.records import audit, model_switches, tenants
from embedfleet.records.audit import Deed
from embedfleet.records.cursors import Page, require_limit
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.records.scope import EveryTenant, OneTenant
from embedfleet.settings import Settings
from embedfleet.sql.database import Database

_Order = Callable[[Connection, str, float], ModelSwitch]


class SwitchAdministration:
    """The switches of all tenants, for operators. `actor` stands in the audit log.

    An order for one tenant raises if it is not possible: while a space is emptied, any but `retire` raises
    NotReady. An order for many is given to each of them in a transaction of its own, and those that refuse it
    are named. Any method may raise DatabaseUnavailable; one that changes something may raise StorageFull.
    """

    def __init__(
        self, database: Database, clock: Clock, settings: Settings, catalogue: Catalogue, *, actor: str
    ) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._catalogue = catalogue
        self._actor = actor
        self._keep_days = settings.model_switching.keep_days

    async def estimate(
        self, selection: Selection, *, to_model: str, from_model: str | None = None
    ) -> SwitchEstimate:
        """Say what the switches would take. Nothing is written.

        Raises UnknownModel, and InvalidRequest as `begin`.
        """
        wanted = self._wanted(to_model, from_model)
        return await estimate(
            self._database,
            await self._database.read(partial(_whole_names, selection=selection)),
            wanted,
            settings=self._settings,
            catalogue=self._catalogue,
            now=self._clock.now(),
            leaves_out=selection.all_tenants,
        )

    async def begin(
        self,
        selection: Selection,
        *,
        to_model: str,
        from_model: str | None = None,
        percent: float = 100.0,
        most_jobs: int | None = None,
        force: bool = False,
    ) -> SwitchesBegun:
        """Begin to switch a tenant, or all tenants, to the model. Given again, it changes nothing.

        `percent`: the share of queries that the new space answers once it has passed the gate. `most_jobs`:
        how many documents of a tenant are embedded at a time; None: as the settings say. With `force`, the
        gate only says what it finds.

        For one tenant, raises InvalidRequest if it has a switch to another model under way, or documents of
        several models and none is named. Of all tenants, such ones are left out, with the reason. Raises
        UnknownModel.
        """
        _require_percent(percent)
        _require_most_jobs(most_jobs)
        wanted = self._wanted(to_model, from_model, percent, most_jobs)

        def begin(conn: Connection) -> Begun:
            now = self._clock.now()
            names = _whole_names(conn, selection)
            begun = orders.begin(conn, names, wanted, now, leaves_out=selection.all_tenants)
            self._record_begun(conn, begun, wanted, now)
            if force:
                for one in begun.switches:
                    self._force_if_open(conn, one, now)
            return begun

        begun = await self._database.write(begin)
        return SwitchesBegun(
            switches=await self._seen(begun.switches),
            model_set=(*begun.without_documents, *begun.there_already),
            left_out=_skipped(begun.left_out),
        )

    def _wanted(
        self, to_model: str, from_model: str | None, percent: float = 100.0, most_jobs: int | None = None
    ) -> Wanted:
        rules_apply = bool(self._settings.models.routing.rules)
        return Wanted(self._catalogue.info(to_model), from_model, percent, most_jobs, rules_apply)

    async def show(self, switch_id: int) -> SwitchInfo:
        """Return a switch, with the questions that the new space answers worst. Raises UnknownSwitch."""

        def look(conn: Connection) -> SwitchInfo:
            found = model_switches.get(conn, switch_id)
            if found is None:
                raise UnknownSwitch(
                    f"no switch `{switch_id}`: list the switches to see which there are",
                    remedy=Remedy.LIST_SWITCHES,
                )
            return describe(conn, found, keep_days=self._keep_days, worst=True)

        return await self._database.read(look)

    async def list_switches(
        self,
        *,
        tenant: str | None = None,
        campaign: str | None = None,
        ended: bool = False,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[SwitchInfo]:
        """Return up to `limit` switches, newest first, without their worst questions.

        Those that have ended are left out unless `ended`. For the next page, pass `next_cursor` of this page
        as `after`. Raises InvalidRequest for another text, and for an empty campaign.
        """
        require_limit(limit)
        require_campaign_named(campaign)
        scope = EveryTenant() if tenant is None else OneTenant(tenant)

        def look(conn: Connection) -> Page[SwitchInfo]:
            found = model_switches.page(conn, scope, campaign=campaign, ended=ended, limit=limit, after=after)
            described = [describe(conn, one, keep_days=self._keep_days, worst=False) for one in found]
            return Page(described, next_cursor=found.next_cursor)

        return await self._database.read(look)

    async def pause(self, selection: Selection) -> SwitchesOrdered:
        """Embed no more documents of before for now. What is submitted is still embedded with both models."""
        return await self._give(
            SwitchOrder.PAUSE, selection, lambda conn, name, now: orders.pause(conn, name)
        )

    async def resume(self, selection: Selection) -> SwitchesOrdered:
        """Go on after `pause`."""
        return await self._give(
            SwitchOrder.RESUME, selection, lambda conn, name, now: orders.resume(conn, name)
        )

    async def throttle(self, selection: Selection, *, most_jobs: int | None) -> SwitchesOrdered:
        """Embed at most this many documents of a tenant at a time; None: as the settings say."""
        _require_most_jobs(most_jobs)
        return await self._give(
            SwitchOrder.THROTTLE,
            selection,
            lambda conn, name, now: orders.throttle(conn, name, most_jobs),
            most_jobs=most_jobs,
        )

    async def serve(self, selection: Selection, *, percent: float) -> SwitchesOrdered:
        """Have the new space answer this share of the queries: at once, or once it has passed the gate.

        Raises NotReady while a space is emptied.
        """
        _require_percent(percent)
        return await self._give(
            SwitchOrder.SERVE,
            selection,
            lambda conn, name, now: orders.serve(conn, name, percent, now),
            percent=percent,
        )

    async def rollback(self, selection: Selection) -> SwitchesOrdered:
        """Have the old space answer all queries again, at once. Raises NotReady while a space is emptied."""
        return await self._give(SwitchOrder.ROLLBACK, selection, orders.rollback)

    async def force(self, selection: Selection) -> SwitchesOrdered:
        """Pass a gate that has refused the switch, or will. Raises InvalidRequest after the gate."""
        return await self._give(
            SwitchOrder.FORCE,
            selection,
            lambda conn, name, now: orders.force(conn, name, now, actor=self._actor),
        )

    async def recheck(self, selection: Selection) -> SwitchesOrdered:
        """Have a refused switch checked again. Raises InvalidRequest for another one."""
        return await self._give(SwitchOrder.RECHECK, selection, orders.recheck)

    async def retire(self, selection: Selection, *, force: bool = False) -> SwitchesOrdered:
        """Empty the space that answers no query, and end the switch. There is no way back from here.

        Raises NotReady while both spaces answer queries, and, unless `force`, if documents are only in the
        space that is to be emptied. With `force` they are embedded with the other model; those for which
        that fails stay.
        """
        return await self._give(
            SwitchOrder.RETIRE,
            selection,
            lambda conn, name, now: orders.retire(conn, name, now, force=force),
            force=force,
        )

    # --- how an order is given ---

    async def _give(
        self, order: SwitchOrder, selection: Selection, act: _Order, **details: object
    ) -> SwitchesOrdered:
        names = await self._database.read(partial(_switched_names, selection=selection))
        done: list[ModelSwitch] = []
        refused: dict[str, str] = {}
        for name in names:
            unit = partial(self._ordered, name=name, order=order, act=act, details=details)
            try:
                done.append(await self._database.write(unit))
            except (InputError, NotReady) as exc:
                if selection.tenant is not None:
                    raise
                refused[name] = str(exc)
        return SwitchesOrdered(switches=await self._seen(done), refused=_skipped(refused))

    def _ordered(
        self, conn: Connection, name: str, order: SwitchOrder, act: _Order, details: dict[str, object]
    ) -> ModelSwitch:
        now = self._clock.now()
        before = model_switches.running_of(conn, [name]).get(name)
        after = act(conn, name, now)
        if after != before:
            self._record(conn, order, after, now, **details)
        return after

    def _force_if_open(self, conn: Connection, switch: ModelSwitch, now: float) -> None:
        """Pass the gate by force, unless it is passed or was forced before."""
        if SwitchOrder.FORCE in orders_now(switch):
            forced = orders.force(conn, switch.tenant, now, actor=self._actor)
            self._record(conn, SwitchOrder.FORCE, forced, now)

    def _record_begun(self, conn: Connection, begun: Begun, wanted: Wanted, now: float) -> None:
        again = {one.switch_id for one in begun.again}
        for one in begun.switches:
            if one.switch_id not in again:
                share = {"percent": wanted.percent, "most_jobs": wanted.most_jobs}
                self._record(conn, "begin", one, now, campaign=one.campaign, **share)
        for name in (*begun.without_documents, *begun.there_already):
            details = {"to": wanted.to.name}
            audit.add(conn, Deed(self._actor, "model_switch.set_model", name, details), now)

    def _record(
        self, conn: Connection, action: str, switch: ModelSwitch, now: float, **details: object
    ) -> None:
        told = {
            "switch_id": switch.switch_id,
            "from": switch.old.name,
            "to": switch.to_collection.model,
            **details,
        }
        audit.add(conn, Deed(self._actor, f"model_switch.{action}", switch.tenant, told), now)

    async def _seen(self, switches: Sequence[ModelSwitch]) -> tuple[SwitchInfo, ...]:
        """Describe the switches as they are now: counting takes too long for the unit that changes them."""

        def look(conn: Connection) -> tuple[SwitchInfo, ...]:
            found = (model_switches.get(conn, one.switch_id) for one in switches)
            return tuple(
                describe(conn, one, keep_days=self._keep_days, worst=False)
                for one in found
                if one is not None
            )

        return await self._database.read(look)


def _whole_names(conn: Connection, selection: Selection) -> Sequence[str]:
    """Return the tenants that a new switch is for: the named one, or all that are known."""
    selection.require_no_campaign()
    if selection.tenant is not None:
        return [selection.tenant]
    return [row.tenant for row in tenants.get_all(conn)]


def _switched_names(conn: Connection, selection: Selection) -> Sequence[str]:
    """Return the tenants whose switches an order is for. Raises InvalidRequest if it is for none."""
    if selection.tenant is not None:
        return [selection.tenant]
    found = model_switches.tenants_under_way(conn, campaign=selection.campaign)
    if not found:
        where = "" if selection.campaign is None else f" of campaign `{selection.campaign}`"
        raise InvalidRequest(f"no switch to another model{where} is under way: begin one")
    return found


def _skipped(reasons: Mapping[str, str]) -> tuple[SkippedTenant, ...]:
    return tuple(SkippedTenant(tenant_id=name, reason=why) for name, why in reasons.items())


def _require_percent(percent: float) -> None:
    if not 0 <= percent <= 100:
        raise InvalidRequest(f"percent: must be 0 to 100 (got {percent:g})", field="percent")


def _require_most_jobs(most_jobs: int | None) -> None:
    if most_jobs is not None and not 1 <= most_jobs <= orders.MOST_JOBS:
        raise InvalidRequest(
            f"most_jobs: must be 1 to {orders.MOST_JOBS:,} (got {most_jobs:,})", field="most_jobs"
        )
