"""`embedfleet keys list|create|rotate|revoke`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.administration import with_administration, within
from embedfleet.cli.options import AnyTenant, AsJson, Tenant
from embedfleet.cli.output import print_json, readable_time, say, say_table, warn
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.administration.schemas import KeyInfo, NewKey
    from embedfleet.cli.systems.port import OperatorAdministration, System
    from embedfleet.records.cursors import Page

app = typer.Typer(
    help="API keys: who may use the HTTP API, and for what. With the first key, the API asks for one.",
    no_args_is_help=True,
)
Prefix = Annotated[str, typer.Argument(help="The key's prefix, as `keys list` shows it.")]

_DAY_SECONDS = 86_400.0


class KeyScope(StrEnum):
    """The values of api_keys.Scope that a tenant's key may have (not imported here, for a quick `--help`)."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@app.command("list")
@somewhere
def list_keys(
    place: Place,
    tenant: AnyTenant = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Keys, newest first, the revoked and expired ones too. Secrets are stored nowhere."""

    async def look(door: OperatorAdministration) -> Page[KeyInfo]:
        return await within(door, tenant).list_keys(limit=limit)

    found = with_administration(place, look)
    if as_json:
        print_json({"keys": [one.json_document() for one in found]})
        return
    headings = ("prefix", "tenant", "scopes", "state", "expires", "used", "name")
    say_table(headings, map(_cells, found))


@app.command("create")
@somewhere
def create(
    place: Place,
    scopes: Annotated[
        list[KeyScope] | None,
        typer.Option("--scope", help="What it allows; may be repeated.", show_default="read and write"),
    ] = None,
    tenant: Tenant = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="A key that may do everything, for every tenant.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="What it is for.")] = None,
    days: Annotated[
        float | None,
        typer.Option("--days", min=0.0, help="How long it may be used.", show_default="for ever"),
    ] = None,
    requests_per_minute: Annotated[
        int | None,
        typer.Option(
            "--requests-per-minute", min=1, help="Its own limit.", show_default="that of its tenant"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once. With the first key of a system, the HTTP API asks for one."""
    from embedfleet.administration.schemas import KeyRequest
    from embedfleet.api_keys import Scope

    if operator and (scopes or tenant):
        raise typer.BadParameter(
            "an operator's key has every scope and belongs to no tenant", param_hint="--operator"
        )
    wanted = KeyRequest(
        name=name or "",
        expires_in_seconds=None if days is None else days * _DAY_SECONDS,
        requests_per_minute=requests_per_minute,
        **({"scopes": frozenset(Scope(one) for one in scopes)} if scopes else {}),
    )

    async def make(system: System) -> NewKey:
        door = await system.administration()
        if operator:
            return await door.create_operator_key(wanted)
        return await door.of(await system.tenant(tenant)).create_key(wanted)

    _show_new(with_system(place, make), as_json=as_json)


@app.command("rotate")
@somewhere
def rotate(
    place: Place,
    prefix: Prefix,
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0.0, max=8_000.0, help="How long the old one still works.")
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Make a key like this one and print it, this once. The old one goes on for a while."""
    made = with_administration(
        place, lambda door: door.rotate_key(prefix, overlap_seconds=overlap_hours * 3600)
    )
    _show_new(made, as_json=as_json)


@app.command("revoke")
@somewhere
def revoke(place: Place, prefix: Prefix, as_json: AsJson = False) -> None:
    """Make a key unusable, at once and for good."""
    key = with_administration(place, lambda door: door.revoke_key(prefix))
    if as_json:
        print_json({"key": key.json_document()})
    else:
        say(f"{key.prefix} is revoked")


def _show_new(made: NewKey, *, as_json: bool) -> None:
    if as_json:
        print_json({"new_key": made.json_document()})
        return
    say(made.key)
    tenant, scopes = made.info.tenant_id, ", ".join(made.info.scopes)
    whose = "an operator" if tenant is None else f"tenant {tenant}, with the scopes {scopes}"
    warn(f"this is the key of {whose}: keep it, it is never shown again")


def _cells(key: KeyInfo) -> tuple[str, ...]:
    return (
        key.prefix,
        key.tenant_id or "(operator)",
        " ".join(key.scopes),
        key.state.value,
        _time(key.expires_at),
        _time(key.used_at),
        key.name or "-",
    )


def _time(when: datetime | None) -> str:
    return "-" if when is None else readable_time(when)
