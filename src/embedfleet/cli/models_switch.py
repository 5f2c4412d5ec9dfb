"""`embedfleet models switch`: begins to switch tenants to another model, and carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.disk_space import confirm_with_space, warn_of_little_space
from embedfleet.cli.models_switch_options import EveryTenant, Jobs, Percent, Yes, selection_of
from embedfleet.cli.models_switch_report import print_switches, say_estimate, say_switches, warn_of_skipped
from embedfleet.cli.models_switch_run import CarriedOut, carry_out, exit_code
from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import print_json, say
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.quantities import percent as percent_of
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedfleet.cli.systems.port import System
    from embedfleet.model_switching.schemas import SwitchesBegun, SwitchEstimate, SwitchInfo


@somewhere
def switch(
    place: Place,
    to: Annotated[str, typer.Option("--to", metavar="MODEL", help="The model to switch to.")],
    tenant: Tenant = None,
    every: EveryTenant = False,
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="The model to leave, or `route` for all that the tenant has.",
            show_default="the only one with documents",
        ),
    ] = None,
    percent: Percent = "100",
    jobs: Jobs = None,
    force: Annotated[
        bool, typer.Option("--force", help="Pass the gate whatever it finds. The audit log has it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would take, and begin nothing.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Switch tenants to another model while they submit and search: from the stored texts, with a proof.

    Beside running orchestrators this only begins it, and they carry it out. Without any, embedded, this
    command carries it out until the new model answers, or is refused. Interrupted, it goes on when the
    command is given again, or when an orchestrator runs. The old vectors are kept until `models retire`.
    """
    wanted = _Wanted(tenant, every, to, from_model, percent_of(percent, "--percent"), jobs, force)
    found = with_system(place, wanted.estimate)
    if dry_run and as_json:
        print_json({"estimate": found.json_document()})
    if not as_json:
        say_estimate(found)
    needed = found.vector_bytes + found.text_bytes + found.record_bytes
    if dry_run:
        warn_of_little_space(needed, found.free_bytes)
        return
    confirm_with_space("Switch?", needed_bytes=needed, free_bytes=found.free_bytes, yes=yes)
    begun, done = with_system(place, partial(wanted.begin, quiet=as_json))
    _show(begun, done.switches, to, as_json=as_json)
    if code := exit_code(done, begun.left_out):
        raise SystemExit(code)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the options of the command say."""

    tenant: str | None
    every: bool
    to: str
    from_model: str | None
    percent: float
    jobs: int | None
    force: bool

    async def estimate(self, system: System) -> SwitchEstimate:
        selection = await selection_of(system, self.tenant, None, every=self.every)
        door = await system.switches()
        return await door.estimate(selection, to_model=self.to, from_model=self.from_model)

    async def begin(self, system: System, *, quiet: bool) -> tuple[SwitchesBegun, CarriedOut]:
        """Begin, and carry it out if no other process would."""
        door = await system.switches()
        begun = await door.begin(
            await selection_of(system, self.tenant, None, every=self.every),
            to_model=self.to,
            from_model=self.from_model,
            percent=self.percent,
            most_jobs=self.jobs,
            force=self.force,
        )
        return begun, await carry_out(system, begun.switches, quiet=quiet)


def _show(begun: SwitchesBegun, switches: Sequence[SwitchInfo], to: str, *, as_json: bool) -> None:
    if as_json:
        model_set, left_out = list(begun.model_set), [one.json_document() for one in begun.left_out]
        print_switches(switches, {"model_set": model_set, "left_out": left_out})
        return
    say("")
    say_switches(switches, none="no documents are to be embedded")
    for name in begun.model_set:
        say(f"tenant {name}: what it submits goes to {to} from now on")
    warn_of_skipped(begun.left_out)
