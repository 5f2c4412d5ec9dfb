"""The administration of one tenant, by the tenant itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from embedfleet.administration.schemas import (
    KeyRequest,
    NewKey,
    RoutedLine,
    RoutingInfo,
    RoutingPlan,
    RoutingStep,
    TenantInfo,
)
from embedfleet.administration.scoped_administration import Administration
from embedfleet.api_keys import Scope as KeyScope
from embedfleet.clock import Clock
from embedfleet.errors import ConfigError, InvalidRequest
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.rerouting import Rerouting
from embedfleet.records import tenants
from embedfleet.records.scope import OneTenant
from embedfleet.records.tenants import TenantRow
from embedfleet.settings import PriceSettings, RoutingRule, RoutingRules, Settings
from embedfleet.settings.routing import unknown_model
from embedfleet.sql.database import Database


class TenantAdministration(Administration):
    """The administration of one tenant, by the tenant itself. It cannot change its tier and its limits."""

    def __init__(
        self, database: Database, clock: Clock, settings: Settings, tenant: str, *, actor: str
    ) -> None:
        super().__init__(database, clock, settings, OneTenant(tenant), actor=actor)
        self._tenant = tenant

    async def tenant(self) -> TenantInfo:
        """Return the tenant's tier, its limits, and what it has used of them."""

        def look(conn: Connection) -> TenantInfo:
            return self._describe(conn, [self._row(conn)])[0]

        return await self._database.read(look)

    async def routing(self) -> RoutingInfo:
        """Return which model a document of the tenant gets, if its caller names none."""

        def look(conn: Connection) -> RoutingInfo:
            return self._routing(self._row(conn))

        return await self._database.read(look)

    async def set_rules(self, rules: Sequence[RoutingRule]) -> RoutingInfo:
        """Give the tenant these rules of routing, in place of those it has. Without any it has none.

        They count for every job that begins after it. Documents that are there keep their models. Raises
        InvalidRequest for a rule that can never match, or that names a model that there is not.
        """
        given = checked_rules(rules, Catalogue(self._settings.models).names())

        def change(conn: Connection) -> RoutingInfo:
            tenants.lock(conn, [self._tenant])
            before = self._row(conn)
            after = replace(before, routing=replace(before.routing, rules=given))
            if after != before:
                tenants.set_rules(conn, self._tenant, given)
                written = [one.model_dump(mode="json", exclude_defaults=True) for one in given]
                self._record(conn, "routing.set", self._tenant, self._clock.now(), rules=written)
            return self._routing(after)

        return await self._database.write(change)

    async def plan_routing(self, rules: Sequence[RoutingRule] | None = None) -> RoutingPlan:
        """Say what would move if all documents that readers see were routed again. Nothing is changed.

        With `rules`, these count in place of the tenant's own. All texts are read, so it takes about as long
        as to count their tokens. Raises InvalidRequest for rules that `set_rules` would refuse, UnknownModel.
        """
        rerouting = self._rerouting()
        own = await rerouting.routing()
        if rules is not None:
            given = checked_rules(rules, Catalogue(self._settings.models).names())
            own = replace(own, rules=given)
        moving: dict[tuple[str, str, str], tuple[int, int]] = {}
        staying = 0
        async for page in rerouting.look(own):
            for one in page:
                if one.moves:
                    key = (one.shown.collection.model, one.route.model, one.route.by)
                    number, tokens = moving.get(key, (0, 0))
                    moving[key] = (number + 1, tokens + one.tokens)
                else:
                    staying += 1
        return routing_plan(self._tenant, moving, staying, self._settings.prices)

    async def move_routed(self, *, after: str | None = None) -> RoutingStep:
        """Look at the next documents, and begin jobs for those that the rules send to another model.

        `after` is the `next_cursor` of the step before. Steps may be repeated: a document that is where it
        belongs stays. Raises NotReady while the tenant is switched to another model, UnknownModel.
        """
        now = self._clock.now()

        def audit(conn: Connection) -> None:
            if after is None:  # one row for all steps
                self._record(conn, "routing.move", self._tenant, now)

        step = await self._rerouting().move(after=after or "", now=now, also=audit)
        return RoutingStep(
            looked_at=step.looked_at,
            begun=tuple(step.begun),
            left_out=step.left_out,
            next_cursor=step.after,
        )

    def _rerouting(self) -> Rerouting:
        return Rerouting(self._database, self._settings, Catalogue(self._settings.models), self._tenant)

    def _row(self, conn: Connection) -> TenantRow:
        return tenants.get_many(conn, [self._tenant]).get(self._tenant, TenantRow(self._tenant))

    def _routing(self, row: TenantRow) -> RoutingInfo:
        models = self._settings.models
        return RoutingInfo(
            tenant_id=self._tenant,
            rules=tuple(row.routing.rules),
            rules_of_settings=models.routing.rules,
            model=row.routing.model,
            default_model=models.default,
        )

    async def create_key(self, request: KeyRequest) -> NewKey:
        """Make a key of this tenant. Raises InvalidRequest for the scope of an operator."""
        if KeyScope.OPERATOR in request.scopes:
            raise InvalidRequest(
                "scopes: `operator` is for keys that belong to no tenant: leave it out", field="scopes"
            )
        return await self._create_key(self._tenant, request)


def checked_rules(rules: Sequence[RoutingRule], models: Sequence[str]) -> tuple[RoutingRule, ...]:
    """Return the rules, or raise InvalidRequest if one can never match or names none of these models."""
    try:
        checked = RoutingRules(rules=tuple(rules)).rules
    except ConfigError as exc:
        raise InvalidRequest(f"rules: {str(exc).removeprefix('setting `rules`: ')}", field="rules") from None
    if wrong := unknown_model(checked, models):
        raise InvalidRequest(f"rules: {wrong}", field="rules")
    return checked


def routing_plan(
    tenant: str,
    moving: Mapping[tuple[str, str, str], tuple[int, int]],
    staying: int,
    prices: PriceSettings,
) -> RoutingPlan:
    """Return the plan. `moving` has numbers of documents and tokens, by model before, after, and rule."""
    lines = [
        RoutedLine(
            from_model=before,
            to_model=model,
            by=by,
            documents=number,
            tokens=tokens,
            cost=prices.cost(model, tokens),
        )
        for (before, model, by), (number, tokens) in moving.items()
    ]
    costs = [one.cost for one in lines]
    return RoutingPlan(
        tenant_id=tenant,
        lines=tuple(sorted(lines, key=lambda one: (-one.documents, one.from_model, one.to_model, one.by))),
        documents=sum(one.documents for one in lines),
        tokens=sum(one.tokens for one in lines),
        cost=None if None in costs else sum(one for one in costs if one is not None),
        currency=prices.currency,
        staying=staying,
    )
