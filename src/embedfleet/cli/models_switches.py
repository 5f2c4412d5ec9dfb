"""`embedfleet models switches`: how switches to another model stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.models_switch_options import Campaign
from embedfleet.cli.models_switch_report import print_switches, say_switches
from embedfleet.cli.options import AnyTenant, AsJson
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.model_switching.schemas import SwitchInfo


@somewhere
def switches(
    place: Place,
    tenant: AnyTenant = None,
    campaign: Campaign = None,
    ended: Annotated[bool, typer.Option("--ended", help="With those that have ended.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """How switches to another model stand, newest first: progress, time left, reasons, what can be ordered.

    A single one is shown with the questions that the new model answers worst.
    """

    async def look(system: System) -> Sequence[SwitchInfo]:
        door = await system.switches()
        found = await door.list_switches(tenant=tenant, campaign=campaign, ended=ended, limit=limit)
        return [await door.show(found[0].switch_id)] if len(found) == 1 else found

    found = with_system(place, look)
    if as_json:
        print_switches(found)
    else:
        say_switches(found, none="no switch to another model" + ("" if ended else " is under way"))
