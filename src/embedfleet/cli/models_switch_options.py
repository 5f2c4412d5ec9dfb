"""The options that the commands of switches to another model share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.model_switching.selection import Selection

EveryTenant = Annotated[bool, typer.Option("--all", help="Every tenant, each on its own.")]
Campaign = Annotated[
    str | None,
    typer.Option("--campaign", metavar="ID", help="All that one `--all` began.", show_default="none"),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Documents of a tenant that are embedded at a time.",
        show_default="model_switching.most_jobs",
    ),
]
Percent = Annotated[
    str, typer.Option("--percent", metavar="PERCENT", help="Queries that the new model answers.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


async def selection_of(system: System, tenant: str | None, campaign: str | None, *, every: bool) -> Selection:
    """Return what the options select; without any, the tenant that a command acts for."""
    from embedfleet.model_switching.selection import Selection

    given = [
        name
        for name, is_given in (
            ("--tenant", tenant is not None),
            ("--campaign", campaign is not None),
            ("--all", every),
        )
        if is_given
    ]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} contradict each other: give one of them")
    if campaign is not None or every:
        return Selection(None, campaign, every)
    return Selection(await system.tenant(tenant))
