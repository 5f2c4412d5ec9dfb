"""`embedfleet models`."""

from __future__ import annotations

from typing import Any

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_from
from embedfleet.cli.output import print_json


def models(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """The models this installation can embed with; the default one is marked."""
    from embedfleet.errors import EmbedfleetError
    from embedfleet.inference.catalogue import Catalogue

    settings = settings_from(data_dir, config)
    catalogue = Catalogue(settings.models)
    rows: list[dict[str, Any]] = []
    for name in catalogue.names():
        row: dict[str, Any] = {"name": name, "default": name == settings.models.default}
        try:
            info = catalogue.info(name)
            row |= {
                "available": True,
                "dim": info.dim,
                "max_tokens": info.max_tokens,
                "size_bytes": info.size_bytes,
                "space": info.space,
                "description": info.description,
            }
        except EmbedfleetError as exc:
            row |= {"available": False, "reason": str(exc)}
        rows.append(row)
    if as_json:
        print_json({"models": rows})
        return
    for row in rows:
        mark = "*" if row["default"] else " "
        if row["available"]:
            size = f"{row['size_bytes'] / 1e6:.0f} MB"
            typer.echo(
                f"{mark} {row['name']:<12} {row['dim']:>5} dim  {row['max_tokens']:>5} tokens  {size:>7}  "
                f"{row['description']}"
            )
        else:
            typer.echo(f"{mark} {row['name']:<12} not available: {row['reason']}")
