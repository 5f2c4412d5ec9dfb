"""Options that several commands share, and the settings they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from embedfleet.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where everything is kept. Also EMBEDFLEET_DATA_DIR.",
        show_default="user data folder",
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file (see embeddings_config.yaml).")
]
Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Whose documents.", show_default="tenants.default_tenant")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def settings_from(data_dir: Path | None, config_file: Path | None) -> Settings:
    """Defaults < file < environment < flags."""
    from embedfleet.settings import load_settings

    overrides = {} if data_dir is None else {"data_dir": str(data_dir)}
    return load_settings(config_file, overrides=overrides)
