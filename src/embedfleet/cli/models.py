"""`embedfleet models`: lists the models. The other model commands are in the files beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from embedfleet.cli.models_add import add
from embedfleet.cli.models_bench import bench
from embedfleet.cli.models_languages import languages
from embedfleet.cli.models_remove import remove
from embedfleet.cli.models_route import app as route
from embedfleet.cli.models_switch import switch
from embedfleet.cli.models_switch_orders import pause, recheck, resume, retire, rollback, serve, throttle
from embedfleet.cli.models_switches import switches
from embedfleet.cli.models_warm import warm
from embedfleet.cli.options import AsJson
from embedfleet.cli.output import print_json, say, say_table, with_command
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.inference.model_list import ListedModel

app = typer.Typer(
    help="The models: list, add, warm, bench, remove, languages, switch, route.",
    invoke_without_command=True,
)
app.command("add")(add)
app.command("warm")(warm)
app.command("bench")(bench)
app.command("remove")(remove)
app.command("languages")(languages)
app.command("switch")(switch)
app.command("switches")(switches)
for order in (pause, resume, throttle, serve, rollback, recheck, retire):
    app.command(order.__name__)(order)
app.add_typer(route, name="route")

_LOADED = {True: "loaded", False: "-", None: "?"}


@app.callback()
@somewhere
def models(place: Place, context: typer.Context, as_json: AsJson = False) -> None:
    """The models with which this installation can embed; the default one is marked."""
    if context.invoked_subcommand is None:
        _list(place, as_json=as_json)
    elif as_json or place.by_options:
        raise typer.BadParameter(f"put the options behind `{context.invoked_subcommand}`")


@app.command("list")
@somewhere
def list_models(place: Place, as_json: AsJson = False) -> None:
    """What each model is, where it runs, and whether a running orchestrator has it loaded."""
    _list(place, as_json=as_json)


def _list(place: Place, *, as_json: bool) -> None:
    async def look(system: System) -> list[ListedModel]:
        return await system.catalogue()

    rows = [_row(model) for model in with_system(place, look)]
    if as_json:
        print_json({"models": rows})
    else:
        say_table(_HEADINGS, [_cells(row) for row in rows], right=(2, 3, 4))
        for row in rows:
            if not row["available"]:
                say(f"not available: {row['reason']}")


def _row(model: ListedModel) -> dict[str, Any]:
    """Return the stable form that `--json` prints: a model that is not available has a reason, no figures."""
    row = model.model_dump(mode="json", exclude={"remedy", *_FIGURES, "reason"})
    if not model.available:
        return row | {"reason": with_command(model.reason or "", model.remedy)}
    return row | {name: getattr(model, name) for name in _FIGURES}


_FIGURES = ("dim", "max_tokens", "size_bytes", "space")
_HEADINGS = ["  model", "backend", "size", "dim", "tokens", "devices", "loaded", "description"]


def _cells(row: dict[str, Any]) -> list[str]:
    available = row["available"]
    return [
        f"{'*' if row['default'] else ' '} {row['name']}",
        row["backend"],
        f"{row['size_bytes'] / 1e6:,.0f} MB" if available else "-",
        f"{row['dim']:,}" if available else "-",
        f"{row['max_tokens']:,}" if available else "-",
        ",".join(row["devices"]),
        _LOADED[row["loaded"]],
        row["description"],
    ]
