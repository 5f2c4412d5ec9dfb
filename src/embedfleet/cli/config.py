"""`embedfleet config from-tldw`: settings of other systems as settings of embedfleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AsJson
from embedfleet.cli.output import print_json, say_text, warn

if TYPE_CHECKING:
    from embedfleet.tldw.draft import Translation

app = typer.Typer(help="Settings files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A callback keeps the name of the only command: without one, `config` would be that command."""


@app.command("from-tldw")
def from_tldw(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="config.txt, or a YAML file of its embeddings or workers.")
    ],
    users: Annotated[
        Path | None,
        typer.Option(
            "--users",
            metavar="DIR",
            help="USER_DB_BASE_DIR of tldw_server: adds the view that its own search reads.",
            show_default="no view",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a settings file of tldw_server as one of embedfleet, to stdout.

    A line on stderr names each key that has no counterpart, and why. The result is checked.
    """
    import yaml

    from embedfleet.settings import load_settings
    from embedfleet.tldw.config_file import translate_file

    translation = translate_file(file)
    settings = dict(translation.settings)
    if users is not None:
        settings["vector_store"] = {"views": [_view(users, translation)]}
    load_settings(environ={}, overrides=settings)
    for warning in translation.warnings:
        warn(f"warning: {warning}")
    if as_json:
        print_json({"settings": settings, "warnings": list(translation.warnings)})
    else:
        say_text(f"# Made of {file.name} by `embedfleet config from-tldw`.\n")
        say_text(yaml.safe_dump(settings, sort_keys=False) if settings else "{}\n")


def _view(users: Path, translation: Translation) -> dict[str, str]:
    """The view that tldw's search reads. It names the model as its rows do, by which it embeds queries."""
    view = {"name": "tldw", "layout": "tldw", "path": str(users / "{tenant}" / "chroma_storage")}
    if translation.reader_model is None:
        return view
    provider, model = translation.reader_model
    return {**view, "reader_provider": provider, "reader_model": model}
