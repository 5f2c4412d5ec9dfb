"""`embedfleet models route show|set|clear|plan|apply`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import confirm, print_json, say, say_table
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system
from embedfleet.wording import number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedfleet.administration.schemas import RoutingInfo, RoutingPlan
    from embedfleet.cli.systems.port import System
    from embedfleet.settings import RoutingRule

app = typer.Typer(
    help="Which model a document gets by its content, if its caller names none.", no_args_is_help=True
)
# YAML takes minutes for ten million characters. The most rules that are allowed are far shorter.
_MOST_CHARS = 500_000
_RULES = "A list of rules as in `models.routing.rules`, in YAML; or @FILE, a file with that list."
Rules = Annotated[str, typer.Argument(metavar="RULES", help=_RULES)]
ProposedRules = Annotated[
    str | None, typer.Argument(metavar="RULES", help=_RULES, show_default="the tenant's own")
]


@app.command("show")
@somewhere
def show(place: Place, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """The rules of a tenant, those of the settings, and the model that no rule chooses."""

    async def look(system: System) -> RoutingInfo:
        return await (await system.administration()).of(await system.tenant(tenant)).routing()

    _show(with_system(place, look), as_json=as_json)


@app.command("set")
@somewhere
def set_rules(place: Place, rules: Rules, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Give a tenant rules, in place of those it has. They count for every job that begins after it."""
    given = _rules(rules)
    _show(_set(place, given, tenant), as_json=as_json)


@app.command("clear")
@somewhere
def clear(place: Place, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Take the tenant's own rules away. Those of the settings stay."""
    _show(_set(place, [], tenant), as_json=as_json)


@app.command("plan")
@somewhere
def plan(place: Place, rules: ProposedRules = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """What would move if all documents were routed again: tokens and money. Nothing is changed."""
    given = None if rules is None else _rules(rules)

    async def look(system: System) -> RoutingPlan:
        door = (await system.administration()).of(await system.tenant(tenant))
        return await door.plan_routing(given)

    found = with_system(place, look)
    if as_json:
        print_json({"plan": found.json_document()})
    else:
        _show_plan(found)


@app.command("apply")
@somewhere
def apply(
    place: Place,
    tenant: Tenant = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Embed the documents that the rules send to another model with that one, from their stored texts.

    They stay searchable where they are until then. It may be stopped, and given again.
    """
    confirm("Begin a job for every document that the rules send to another model?", yes=yes)

    async def act(system: System) -> dict[str, int]:
        door = (await system.administration()).of(await system.tenant(tenant))
        sums = {"looked_at": 0, "begun": 0, "left_out": 0}
        after = None
        while True:
            step = await door.move_routed(after=after)
            sums["looked_at"] += step.looked_at
            sums["begun"] += len(step.begun)
            sums["left_out"] += step.left_out
            after = step.next_cursor
            if after is None:
                return sums

    sums = with_system(place, act)
    if as_json:
        print_json(sums)
        return
    documents = number_of(sums["looked_at"], "document")
    say(f"{number_of(sums['begun'], 'job')} begun, {documents} looked at")
    if sums["left_out"]:
        say(f"{number_of(sums['left_out'], 'document')} left out: changed, or with an unfinished job")


def _set(place: Place, rules: Sequence[RoutingRule], tenant: str | None) -> RoutingInfo:
    async def act(system: System) -> RoutingInfo:
        door = (await system.administration()).of(await system.tenant(tenant))
        return await door.set_rules(rules)

    return with_system(place, act)


def _rules(written: str) -> list[RoutingRule]:
    """Return the rules that the text, or the file that it names, describes."""
    from embedfleet.errors import ConfigError
    from embedfleet.settings import RoutingRules
    from embedfleet.settings.yaml_text import parse, read_text

    try:
        named = written.startswith("@")
        text, place = (read_text(Path(written[1:])), written[1:]) if named else (written, "RULES")
        if len(text) > _MOST_CHARS:
            raise ConfigError(
                f"{place}: has {len(text):,} characters, and rules have at most {_MOST_CHARS:,}: "
                "leave some out"
            )
        rules = parse(text, place)
        return list(RoutingRules.model_validate({"rules": rules}).rules)
    except ConfigError as exc:
        raise typer.BadParameter(str(exc), param_hint="RULES") from None


def _show(found: RoutingInfo, *, as_json: bool) -> None:
    if as_json:
        print_json({"routing": found.json_document()})
        return
    model = f"{found.model} (the tenant's)" if found.model else f"{found.default_model} (the default)"
    say(f"tenant       {found.tenant_id}")
    say(f"otherwise    {model}")
    rows = [
        (f"{number}{whose}", rule.model, _conditions(rule))
        for whose, rules in ((" of the tenant", found.rules), ("", found.rules_of_settings))
        for number, rule in enumerate(rules, start=1)
    ]
    if rows:
        say_table(("rule", "model", "documents"), rows)


def _conditions(rule: RoutingRule) -> str:
    given: dict[str, Any] = rule.model_dump(mode="json", exclude_defaults=True, exclude={"model"})
    told = (
        f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in given.items()
    )
    return "; ".join(told) or "every document"


def _show_plan(found: RoutingPlan) -> None:
    if found.lines:
        rows = [
            (
                one.from_model,
                one.to_model,
                one.by,
                f"{one.documents:,}",
                f"{one.tokens:,}",
                _money(one.cost, found.currency),
            )
            for one in found.lines
        ]
        say_table(("from", "to", "by", "documents", "tokens", "cost"), rows, right=(3, 4, 5))
    cost = "" if found.cost is None else f", {_money(found.cost, found.currency)}"
    would = f"{number_of(found.documents, 'document')} would move"
    say(f"{would} ({number_of(found.tokens, 'token')}{cost}), {found.staying:,} would stay")


def _money(cost: float | None, currency: str) -> str:
    return "no price" if cost is None else f"{cost:.4f} {currency}"
