"""`embedfleet tenants list|show|set|delete`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.administration import with_administration
from embedfleet.cli.options import AsJson
from embedfleet.cli.output import PARTLY_DONE, confirm, print_json, readable, say, say_table, warn
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.receipts import say_receipt, say_what_is_left
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.administration.schemas import TenantInfo
    from embedfleet.cli.systems.port import OperatorAdministration, System
    from embedfleet.queue_schemas import Receipt
    from embedfleet.records.cursors import Page

app = typer.Typer(help="Tiers and limits of tenants, and what is used of them.", no_args_is_help=True)
TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant.")]


class Tier(StrEnum):
    """The values of UserTier (not imported here, as that would slow down `--help`)."""

    FREE = "free"
    BASIC = "basic"
    PREMIUM = "premium"
    ENTERPRISE = "enterprise"


@app.command("list")
@somewhere
def list_tenants(
    place: Place,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Tenants that have submitted something or were set up, by name."""

    async def look(door: OperatorAdministration) -> Page[TenantInfo]:
        return await door.list_tenants(limit=limit)

    found = with_administration(place, look)
    if as_json:
        print_json({"tenants": [one.json_document() for one in found]})
        return
    headings = ("tenant", "tier", "active jobs", "tokens today", "own limits")
    say_table(headings, map(_cells, found), right=(2, 3))


@app.command("show")
@somewhere
def show(place: Place, tenant: TenantName, as_json: AsJson = False) -> None:
    """The limits of one tenant, and what it has used of them today (UTC)."""

    async def look(door: OperatorAdministration) -> TenantInfo:
        return await door.of(tenant).tenant()

    _show(with_administration(place, look), as_json=as_json)


@app.command("set")
@somewhere
def set_tenant(
    place: Place,
    tenant: TenantName,
    tier: Annotated[Tier | None, typer.Option("--tier", help="Its tier from now on.")] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option(
            "--limit-of",
            metavar="NAME=NUMBER",
            help="A limit of its own, such as daily_tokens=1000000; NAME= takes it back. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set the tier of a tenant, and limits of its own in place of the tier's."""
    from embedfleet.queue_schemas import UserTier

    if tier is None and not limits:
        raise typer.BadParameter("give --tier or --limit-of")
    given = dict(_limit(one) for one in limits or ())

    async def act(door: OperatorAdministration) -> TenantInfo:
        return await door.set_tenant(
            tenant, tier=None if tier is None else UserTier(tier.value), limits=given
        )

    _show(with_administration(place, act), as_json=as_json)


@app.command("delete")
@somewhere
def delete(
    place: Place,
    tenant: TenantName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Revoke the keys of a tenant, delete all it has, and search for what is left.

    What was used, what operators did, keys and receipts stay, as evidence. See `documents receipt`.
    """
    confirm(f"Revoke the keys, and delete every document, vector and job of tenant `{tenant}`?", yes=yes)

    async def act(system: System) -> Receipt:
        receipt_id = await (await system.administration()).delete_tenant(tenant)
        found = await system.searched_receipts(
            tenant, [receipt_id], purpose="embedfleet tenants delete", announce=warn
        )
        return found[0]

    receipt = with_system(place, act)
    if as_json:
        print_json({"receipt": receipt.json_document()})
    else:
        say_receipt(receipt)
    if say_what_is_left([receipt]):
        raise SystemExit(PARTLY_DONE)


def _limit(written: str) -> tuple[str, float | None]:
    name, equals, number = written.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, float(number) if number else None
    except ValueError:
        raise typer.BadParameter(f"`{written}` must be NAME=NUMBER", param_hint="--limit-of") from None


def _show(tenant: TenantInfo, *, as_json: bool) -> None:
    if as_json:
        print_json({"tenant": tenant.json_document()})
        return
    say(f"tenant       {tenant.tenant_id}")
    say(f"tier         {tenant.tier.value}" + (" (the default)" if tenant.tier_is_default else ""))
    say(f"active jobs  {tenant.active_jobs:,}")
    say(f"today        {readable({name: f'{used:,}' for name, used in tenant.today.model_dump().items()})}")
    rows = [
        (name, "no limit" if value is None else f"{value:,}", "its own" if name in tenant.own_limits else "")
        for name, value in tenant.limits.model_dump().items()
    ]
    say_table(("limit", "value", ""), rows, right=(1,))


def _cells(tenant: TenantInfo) -> tuple[str, ...]:
    return (
        tenant.tenant_id,
        tenant.tier.value,
        f"{tenant.active_jobs:,}",
        f"{tenant.today.tokens:,}",
        ", ".join(f"{name}={value:g}" for name, value in tenant.own_limits.items()) or "-",
    )
