"""The options that several commands share, and the settings that result from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from embedfleet.records.scope import Scope
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
    Path | None,
    typer.Option(
        "--config",
        help="Settings file (see embeddings_config.yaml). Also EMBEDFLEET_CONFIG.",
        show_default="the user's own, if there is one",
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="A server that has the system, in place of a data directory. Also EMBEDFLEET_SERVER.",
        show_default="none",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help="The key for the server. EMBEDFLEET_API_KEY is safer: other users of the machine see options.",
        show_default="none",
    ),
]
Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Whose documents.", show_default="tenants.default_tenant")
]
AnyTenant = Annotated[
    str | None, typer.Option("--tenant", help="Only this tenant's.", show_default="every tenant's")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def settings_from(
    data_dir: Path | None, config_file: Path | None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """The settings of a command: defaults < file < environment < flags.

    `flags` are settings that further options of the command give, in the shape of the file.
    """
    from embedfleet.settings import load_settings

    own = {} if data_dir is None else {"data_dir": str(data_dir)}
    return load_settings(config_file, overrides={**(flags or {}), **own})


def settings_here(data_dir: Path | None, config_file: Path | None) -> Settings:
    """The settings of a command that acts on this machine only. It says so if a server is named."""
    from embedfleet.cli.output import warn
    from embedfleet.settings.loading import SERVER_ENV

    if os.environ.get(SERVER_ENV) and data_dir is None and config_file is None:
        warn(f"{SERVER_ENV} does not count here: this command acts on this machine only")
    return settings_from(data_dir, config_file)


def scope_of(tenant: str | None) -> Scope:
    """What `--tenant` selects: that tenant's rows, or every tenant's if the option is not given."""
    from embedfleet.records.scope import EveryTenant, OneTenant

    return EveryTenant() if tenant is None else OneTenant(tenant)


def file_to_change(config_file: Path | None) -> Path:
    """The settings file that a command changes; it may not exist yet."""
    from embedfleet.settings import usual_config_file

    return config_file or usual_config_file()
