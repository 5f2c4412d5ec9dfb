"""`embedfleet models`: lists the models. The other model commands are in the files beside this one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from embedfleet.cli.models_add import add
from embedfleet.cli.models_bench import bench
from embedfleet.cli.models_languages import languages
from embedfleet.cli.models_remove import remove
from embedfleet.cli.models_warm import warm
from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_from
from embedfleet.cli.output import print_json, say, say_table, with_command

if TYPE_CHECKING:
    from embedfleet.inference.model_list import ListedModel
    from embedfleet.settings import Settings

app = typer.Typer(help="The models: list, add, warm, bench, remove, languages.", invoke_without_command=True)
app.command("add")(add)
app.command("warm")(warm)
app.command("bench")(bench)
app.command("remove")(remove)
app.command("languages")(languages)

_LOADED = {True: "loaded", False: "-", None: "?"}


@app.callback()
def models(
    context: typer.Context, as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """The models with which this installation can embed; the default one is marked."""
    if context.invoked_subcommand is None:
        list_models(as_json=as_json, data_dir=data_dir, config=config)
    elif as_json or data_dir or config:
        raise typer.BadParameter(f"put the options behind `{context.invoked_subcommand}`")


@app.command("list")
def list_models(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """What each model is, where it runs, and whether a running orchestrator has it loaded."""
    from embedfleet.inference.catalogue import Catalogue
    from embedfleet.inference.model_list import list_models as models_of_installation

    settings = settings_from(data_dir, config)
    loaded = asyncio.run(_loaded_models(settings))
    found = models_of_installation(Catalogue(settings.models), settings.models, loaded)
    rows = [_row(model) for model in found]
    if as_json:
        print_json({"models": rows})
    else:
        say_table(_HEADINGS, [_cells(row) for row in rows], right=(2, 3, 4))
        for row in rows:
            if not row["available"]:
                say(f"not available: {row['reason']}")


async def _loaded_models(settings: Settings) -> frozenset[str] | None:
    """Names of the models that running orchestrators or their workers have loaded; None if that is not known.

    Imports no model library, and creates no database.
    """
    from embedfleet.data_directory import owner_of
    from embedfleet.deployment import deployment_of
    from embedfleet.errors import EmbedfleetError

    if deployment_of(settings).owns_data_directory and owner_of(settings.data_dir) is None:
        return frozenset()
    from embedfleet.clock import SystemClock
    from embedfleet.records import fleet
    from embedfleet.sql.opening import open_database

    database = open_database(settings)
    try:
        await database.open()
        now = SystemClock().now()
        running = await database.read(lambda conn: fleet.running(conn, now))
    except EmbedfleetError:  # the list is useful without it, and `doctor` shows the error
        return None
    finally:
        await database.close()
    return fleet.loaded_models(running)


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
