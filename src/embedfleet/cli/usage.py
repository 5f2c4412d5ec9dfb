"""`embedfleet usage` and `embedfleet audit`."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.administration import with_administration, within
from embedfleet.cli.options import AnyTenant, AsJson
from embedfleet.cli.output import print_json, readable_time, say_table, say_text
from embedfleet.cli.place import Place, somewhere

if TYPE_CHECKING:
    from embedfleet.administration.schemas import AuditEntry, UsageLine
    from embedfleet.cli.systems.port import OperatorAdministration
    from embedfleet.records.cursors import Page

_DAY = ["%Y-%m-%d"]


@somewhere
def usage(
    place: Place,
    tenant: AnyTenant = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=_DAY, help="First day (UTC).", show_default="29 days before the last"),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=_DAY, help="Last day (UTC), included.", show_default="today"),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table for a spreadsheet on stdout.")] = False,
    as_json: AsJson = False,
) -> None:
    """What tenants submitted, by day, model and API key: the same rows that quotas are counted from."""
    from embedfleet.administration.usage_csv import COUNTS, NAMES, usage_csv

    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json, not both")

    async def look(door: OperatorAdministration) -> list[UsageLine]:
        return await within(door, tenant).usage(first_day=_day(first), last_day=_day(last))

    found = with_administration(place, look)
    if as_json:
        print_json({"usage": [one.json_document() for one in found]})
    elif as_csv:
        say_text(usage_csv(found))
    else:
        rows = [*map(_cells, found), *([_total(found)] if found else [])]
        headings = (*NAMES, *COUNTS, "cost")
        say_table(headings, rows, right=range(len(NAMES), len(headings)))


@somewhere
def audit(
    place: Place,
    tenant: AnyTenant = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """What operators and admins did with tenants and keys, newest first."""

    async def look(door: OperatorAdministration) -> Page[AuditEntry]:
        return await within(door, tenant).audit_log(limit=limit)

    found = with_administration(place, look)
    if as_json:
        print_json({"audit": [one.json_document() for one in found]})
        return
    rows = [
        (readable_time(one.at), one.actor, one.action, one.tenant_id or "-", json.dumps(one.details))
        for one in found
    ]
    say_table(("time", "actor", "action", "tenant", "details"), rows)


def _day(given: datetime | None) -> date | None:
    return None if given is None else given.date()


def _cells(line: UsageLine) -> tuple[str, ...]:
    from embedfleet.administration.usage_csv import COUNTS, NAMES

    counts = [f"{getattr(line, name):,}" for name in COUNTS]
    names = [getattr(line, name) or "-" for name in NAMES]
    return (*names, *counts, _money(line.cost, line.currency))


def _total(lines: list[UsageLine]) -> tuple[str, ...]:
    """The last row. Lines whose model has no price cost nothing in it."""
    from embedfleet.administration.usage_csv import COUNTS

    sums = [f"{sum(getattr(one, name) for one in lines):,}" for name in COUNTS]
    costs = [one.cost for one in lines if one.cost is not None]
    return ("total", "", "", "", *sums, _money(sum(costs) if costs else None, lines[0].currency))


def _money(cost: float | None, currency: str) -> str:
    return "-" if cost is None else f"{cost:,.4f} {currency}"
