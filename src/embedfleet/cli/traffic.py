"""`embedfleet traffic status|set|plan|pause|resume|rollback|retire|restore|history`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from embedfleet.cli import traffic_shadow
from embedfleet.cli.options import AsJson
from embedfleet.cli.output import print_json, print_json_line, reader_ended, say
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.quantities import fraction, percent, percents, seconds
from embedfleet.cli.systems.opening import with_system
from embedfleet.cli.traffic_report import change_line, say_state, say_status

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System, Traffic
    from embedfleet.records.cursors import Page
    from embedfleet.traffic.schemas import TrafficChange
    from embedfleet.traffic.state import TrafficState

T = TypeVar("T")

app = typer.Typer(
    help="Which requests of an application go to the fleet, and which go the way they went before.",
    no_args_is_help=True,
)
app.add_typer(traffic_shadow.app, name="shadow")


class Sticky(StrEnum):
    """The values of traffic.orders.StickyBy (not imported here, for a quick `--help`)."""

    TENANT = "tenant"
    DOCUMENT = "document"


Share = Annotated[
    str | None, typer.Argument(metavar="[PERCENT]", help="How many of a hundred go to the fleet.")
]
StickyByOption = Annotated[
    Sticky | None,
    typer.Option(
        "--sticky-by", help="What goes one way as a whole.", show_default="tenant, or as it was set"
    ),
]
AllowTenants = Annotated[
    list[str] | None,
    typer.Option("--allow-tenant", help="It goes to the fleet in any case. May be repeated."),
]
DenyTenants = Annotated[
    list[str] | None,
    typer.Option("--deny-tenant", help="It never goes to the fleet. May be repeated."),
]
ForgetTenants = Annotated[
    list[str] | None,
    typer.Option("--forget-tenant", help="Take it off both lists of tenants. May be repeated."),
]
AllowTypes = Annotated[
    list[str] | None,
    typer.Option("--allow-type", help="A content type that goes to the fleet. May be repeated."),
]
DenyTypes = Annotated[
    list[str] | None,
    typer.Option("--deny-type", help="A content type that never goes to the fleet. May be repeated."),
]
ForgetTypes = Annotated[
    list[str] | None,
    typer.Option("--forget-type", help="Take it off both lists of content types. May be repeated."),
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, in a line. It is kept with the change.")]


@app.command("status")
@somewhere
def status(
    place: Place,
    window: Annotated[
        str, typer.Option("--window", metavar="TIME", help="The figures are of this time until now.")
    ] = "5m",
    as_json: AsJson = False,
) -> None:
    """Show which requests go where, what the guard makes of it, and how both paths answer."""
    window_seconds = seconds(window, "--window")
    found = _with_traffic(place, lambda traffic: traffic.show(window_seconds=window_seconds))
    if as_json:
        print_json({"traffic": found.json_document()})
    else:
        say_status(found)


@app.command("set")
@somewhere
def set_traffic(
    place: Place,
    share: Share = None,
    sticky_by: StickyByOption = None,
    allow_tenants: AllowTenants = None,
    deny_tenants: DenyTenants = None,
    forget_tenants: ForgetTenants = None,
    allow_types: AllowTypes = None,
    deny_types: DenyTypes = None,
    forget_types: ForgetTypes = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Set the percentage, or the lists that go before it. It holds everywhere within a second.

    A percentage ends a plan that is under way. A denial is stronger than an allowance.
    """
    tenants = _Edit(allow_tenants or [], deny_tenants or [], forget_tenants or [], "tenant")
    types = _Edit(allow_types or [], deny_types or [], forget_types or [], "type")
    wanted = None if share is None else percent(share, "PERCENT")
    sticky: Literal["tenant", "document"] | None = None if sticky_by is None else sticky_by.value
    if wanted is None and sticky_by is None and not (tenants.is_any or types.is_any):
        raise typer.BadParameter("give a percentage or an option that changes something")

    change = _Change(wanted, sticky, reason, tenants, types)
    _change(place, change.made, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Edit:
    """What changes of a list of allowed names and one of denied names."""

    allow: list[str]
    deny: list[str]
    forget: list[str]
    kind: str

    def __post_init__(self) -> None:
        both = sorted((set(self.allow) & set(self.deny)) | (set(self.forget) & {*self.allow, *self.deny}))
        if both:
            raise typer.BadParameter(
                f"`{both[0]}` is in two of --allow-{self.kind}, --deny-{self.kind} and "
                f"--forget-{self.kind}: give it once"
            )

    @property
    def is_any(self) -> bool:
        return bool(self.allow or self.deny or self.forget)

    def applied(
        self, allowed: frozenset[str], denied: frozenset[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return both lists after the change: a name that comes on one of them goes off the other."""
        return (
            (allowed | {*self.allow}) - {*self.deny, *self.forget},
            (denied | {*self.deny}) - {*self.allow, *self.forget},
        )


@dataclass(frozen=True, slots=True)
class _Change:
    """What `set` changes. `percent` and `sticky_by` are None if they stay."""

    percent: float | None
    sticky_by: Literal["tenant", "document"] | None
    reason: str | None
    tenants: _Edit
    types: _Edit

    async def made(self, traffic: Traffic) -> TrafficState:
        """Make the change, and return the state that holds from then on."""
        if not (self.tenants.is_any or self.types.is_any):
            return await traffic.set(percent=self.percent, sticky_by=self.sticky_by, reason=self.reason)
        # The lists are set as a whole: what another operator adds at this moment must not be lost.
        now = (await traffic.show()).state
        allowed, denied = self.tenants.applied(now.allow_tenants, now.deny_tenants)
        allowed_types, denied_types = self.types.applied(now.allow_content_types, now.deny_content_types)
        return await traffic.set(
            percent=self.percent,
            sticky_by=self.sticky_by,
            allow_tenants=allowed,
            deny_tenants=denied,
            allow_content_types=allowed_types,
            deny_content_types=denied_types,
            reason=self.reason,
            expected_change_id=now.change_id,
        )


@app.command("plan")
@somewhere
def plan(
    place: Place,
    steps: Annotated[str, typer.Argument(metavar="STEPS", help="Percentages that rise: 1,5,25,50,100.")],
    hold: Annotated[
        str, typer.Option("--hold", metavar="TIME", help="How long each step lasts at least.")
    ] = "30m",
    max_error_rate: Annotated[
        str, typer.Option("--max-error-rate", metavar="PERCENTAGE", help="The most errors of the fleet.")
    ] = "1%",
    max_p99_ratio: Annotated[
        float,
        typer.Option("--max-p99-ratio", help="The most that its p99 may be over the old path's."),
    ] = 1.5,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Climb step by step, by itself. A step above a limit ends the plan, at the step before.

    A step lasts longer than --hold if too few requests came to tell that it is good.
    """
    wanted = percents(steps, "STEPS")
    hold_seconds = seconds(hold, "--hold")
    most_errors = fraction(max_error_rate, "--max-error-rate")
    _change(
        place,
        lambda traffic: traffic.plan(
            wanted,
            hold_seconds=hold_seconds,
            max_error_rate=most_errors,
            max_p99_ratio=max_p99_ratio,
            reason=reason,
        ),
        as_json=as_json,
    )


@app.command("pause")
@somewhere
def pause(place: Place, reason: Reason = None, as_json: AsJson = False) -> None:
    """Stay at the present step of the plan. It still goes back if the step is above a limit."""
    _change(place, lambda traffic: traffic.pause(reason=reason), as_json=as_json)


@app.command("resume")
@somewhere
def resume(place: Place, reason: Reason = None, as_json: AsJson = False) -> None:
    """Go on with a paused plan. The time of its step begins again."""
    _change(place, lambda traffic: traffic.resume(reason=reason), as_json=as_json)


@app.command("rollback")
@somewhere
def rollback(place: Place, reason: Reason = None, as_json: AsJson = False) -> None:
    """Send every request the old way, at once: 0%, no plan, and empty lists of what is allowed."""
    _change(place, lambda traffic: traffic.rollback(reason=reason), as_json=as_json)


@app.command("retire")
@somewhere
def retire(
    place: Place,
    after: Annotated[
        str, typer.Option("--held", metavar="TIME", help="How long 100% must have held, without a fallback.")
    ] = "7d",
    undo_for: Annotated[
        str, typer.Option("--undo-for", metavar="TIME", help="How long `traffic restore` takes it back.")
    ] = "30d",
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Retire the old path: from then on it refuses requests. Says what is missing if it is too early."""
    after_seconds, restorable_seconds = seconds(after, "--held"), seconds(undo_for, "--undo-for")
    _change(
        place,
        lambda traffic: traffic.retire(
            after_seconds=after_seconds, restorable_seconds=restorable_seconds, reason=reason
        ),
        as_json=as_json,
    )


@app.command("restore")
@somewhere
def restore(place: Place, reason: Reason = None, as_json: AsJson = False) -> None:
    """Take a retired old path back into use. The percentage stays as it is."""
    _change(place, lambda traffic: traffic.restore(reason=reason), as_json=as_json)


@app.command("history")
@somewhere
def history(
    place: Place,
    after: Annotated[int, typer.Option("--after", min=0, help="Only those beyond this position.")] = 0,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new ones, until interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Who changed what, when and why, newest first.

    With --follow they come in order, after those above --after. With --json it is an object in each line.
    """
    if follow:
        _with_traffic(place, lambda traffic: _follow(traffic, after, as_json=as_json))
        return

    async def look(traffic: Traffic) -> Page[TrafficChange]:
        return await traffic.history(limit=limit)

    found = [one for one in _with_traffic(place, look) if one.change_id > after]
    if as_json:
        print_json({"changes": [one.json_document() for one in found]})
        return
    for change in found:
        say(change_line(change))


async def _follow(traffic: Traffic, after: int, *, as_json: bool) -> None:
    async for change in traffic.follow(after=after):
        if as_json:
            print_json_line(change.json_document())
        else:
            say(change_line(change))
        if reader_ended():
            return


def _change(place: Place, act: Callable[[Traffic], Awaitable[TrafficState]], *, as_json: bool) -> None:
    state = _with_traffic(place, act)
    if as_json:
        print_json({"state": state.model_dump(mode="json")})
    else:
        say_state(state)


def _with_traffic(place: Place, act: Callable[[Traffic], Awaitable[T]]) -> T:
    """Run `act` as the operator of this machine, or as whose API key it is; returns what it returns."""

    async def run(system: System) -> T:
        return await act(await system.traffic())

    return with_system(place, run)
