"""`embedfleet models pause|resume|throttle|serve|rollback|recheck|retire`: orders to switches under way."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from embedfleet.cli.models_switch_options import Campaign, EveryTenant, Jobs, Percent, Yes, selection_of
from embedfleet.cli.models_switch_report import print_switches, say_switches, warn_of_skipped
from embedfleet.cli.models_switch_run import CarriedOut, carry_out, exit_code
from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import confirm
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.quantities import percent as percent_of
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import Switches, System
    from embedfleet.model_switching.schemas import SwitchesOrdered, SwitchInfo
    from embedfleet.model_switching.selection import Selection

P = ParamSpec("P")

_Order = Callable[["Switches", "Selection"], Awaitable["SwitchesOrdered"]]


# The options of every order.
_OPTIONS = {"tenant": (Tenant, None), "campaign": (Campaign, None), "every": (EveryTenant, False)}


class _Which:
    """The options that select switches."""

    def __init__(self, tenant: str | None, campaign: str | None, every: bool) -> None:
        self._tenant = tenant
        self._campaign = campaign
        self._every = every

    async def selection(self, system: System) -> Selection:
        return await selection_of(system, self._tenant, self._campaign, every=self._every)

    async def under_way(self, system: System) -> Sequence[SwitchInfo]:
        """Return the selected switches. Raises InvalidRequest if there is none."""
        from embedfleet.errors import InvalidRequest

        chosen = await self.selection(system)
        door = await system.switches()
        found = await door.list_switches(tenant=chosen.tenant, campaign=chosen.campaign)
        if not found:
            of = "" if chosen.tenant is None else f" of tenant `{chosen.tenant}`"
            of = of if chosen.campaign is None else f" of campaign `{chosen.campaign}`"
            raise InvalidRequest(f"no switch to another model{of} is under way: there is nothing to retire")
        return found


def _of_switches(command: Callable[Concatenate[Place, _Which, P], None]) -> Callable[..., None]:
    """Give the command the options that select switches. It gets them as its second argument."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != "which"]
    added = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ]

    @wraps(command)
    def run(place: Place, *args: Any, **named: Any) -> None:
        command(place, _Which(**{name: named.pop(name) for name in _OPTIONS}), *args, **named)

    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return run


@somewhere
@_of_switches
def pause(
    place: Place,
    which: _Which,
    as_json: AsJson = False,
) -> None:
    """Embed no more stored documents for now. What is submitted is still embedded with both models."""
    _give(place, which, lambda door, selection: door.pause(selection), as_json=as_json)


@somewhere
@_of_switches
def resume(
    place: Place,
    which: _Which,
    as_json: AsJson = False,
) -> None:
    """Go on after `models pause`."""
    _give(place, which, lambda door, selection: door.resume(selection), as_json=as_json)


@somewhere
@_of_switches
def throttle(
    place: Place,
    which: _Which,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Change how many stored documents of a tenant are embedded at a time."""
    _give(place, which, lambda door, selection: door.throttle(selection, most_jobs=jobs), as_json=as_json)


@somewhere
@_of_switches
def serve(
    place: Place,
    which: _Which,
    percent: Percent,
    as_json: AsJson = False,
) -> None:
    """Have the new model answer this share of the queries: at once, or once it has passed the gate."""
    wanted = percent_of(percent, "--percent")
    _give(place, which, lambda door, selection: door.serve(selection, percent=wanted), as_json=as_json)


@somewhere
@_of_switches
def rollback(
    place: Place,
    which: _Which,
    as_json: AsJson = False,
) -> None:
    """Have the old model answer all queries again, at once. Its vectors were kept in step."""
    _give(place, which, lambda door, selection: door.rollback(selection), as_json=as_json)


@somewhere
@_of_switches
def recheck(
    place: Place,
    which: _Which,
    as_json: AsJson = False,
) -> None:
    """Have a refused switch checked again, as after its dead letters were tried again."""
    _give(place, which, lambda door, selection: door.recheck(selection), as_json=as_json)


@somewhere
@_of_switches
def retire(
    place: Place,
    which: _Which,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Though documents are only there. Those that the other model cannot embed stay.",
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete the vectors of the model that answers no query, and end the switch. There is no way back.

    After the switch that is the old model. Before it, or after a rollback, it is the new one: then the switch
    is given up.
    """
    if not yes:
        confirm(_what_retires(with_system(place, which.under_way)), yes=False)
    _give(place, which, lambda door, selection: door.retire(selection, force=force), as_json=as_json)


def _what_retires(found: Sequence[SwitchInfo]) -> str:
    """Return what is asked before the spaces that answer no query are emptied."""
    what = "the model that answers no query"
    if len(found) > 1:
        what += f", of {len(found):,} tenants"
    elif not 0 < found[0].percent < 100:
        [one] = found
        old = "all models that the tenant has left" if one.from_model == "route" else f"`{one.from_model}`"
        what = f"{old if one.percent >= 100 else f'`{one.to_model}`'} of tenant {one.tenant_id}"
    return f"Delete the vectors of {what}? There is no way back."


def _give(place: Place, which: _Which, order: _Order, *, as_json: bool) -> None:
    """Give the order; if no process carries out what it begins, do it here. Then show how it stands."""

    async def act(system: System) -> tuple[SwitchesOrdered, CarriedOut]:
        ordered = await order(await system.switches(), await which.selection(system))
        return ordered, await carry_out(system, ordered.switches, quiet=as_json)

    ordered, done = with_system(place, act)
    if as_json:
        print_switches(done.switches, {"refused": [one.json_document() for one in ordered.refused]})
    else:
        say_switches(done.switches, none="nothing was changed")
        warn_of_skipped(ordered.refused)
    if code := exit_code(done, ordered.refused):
        raise SystemExit(code)
