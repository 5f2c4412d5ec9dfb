"""`python -m app.core.Embeddings.worker_orchestrator`: `serve-workers`, which takes tldw's YAML file too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from embedfleet.cli.options import ConfigFile, DataDir
from embedfleet.cli.output import run_safely
from embedfleet.cli.serve import (
    LauncherName,
    Pool,
    RayAddress,
    Wait,
    Workers,
    placement_overrides,
    run_workers,
)

if TYPE_CHECKING:
    from embedfleet.settings import Settings


def serve_workers(
    workers: Workers = None,
    pool: Pool = None,
    wait: Wait = False,
    launcher: LauncherName = None,
    address: RayAddress = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Run the worker pools until SIGTERM or Ctrl-C; jobs may be submitted by any other process.

    The settings file may be tldw's own. A line on stderr names each of its keys that has no counterpart.
    """
    from embedfleet.cli.output import warn
    from embedfleet.tldw.settings import load_orchestrator_settings, worker_file

    def load() -> Settings:
        of_tldw = worker_file(config)
        own = {} if data_dir is None else {"data_dir": str(data_dir)}
        return load_orchestrator_settings(
            of_tldw,
            config_file=None if of_tldw else config,
            overrides=placement_overrides(launcher, address) | own,
        )

    translation = worker_file(config)
    for warning in translation.warnings if translation else ():
        warn(f"no counterpart: {warning}")
    run_workers(load, workers, pool or [], wait=wait)


def main() -> None:
    """The command as a program of its own."""
    run_safely(lambda: typer.run(serve_workers))
