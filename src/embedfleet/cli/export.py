"""`embedfleet export`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AnyTenant, AsJson, ConfigFile, DataDir, scope_of, settings_here
from embedfleet.cli.output import PARTLY_DONE, print_json, say, show_progress, warn

if TYPE_CHECKING:
    from embedfleet.adoption.export_folder import Manifest, Progress
    from embedfleet.records.scope import Scope
    from embedfleet.settings import Settings


def export(
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="The new folder to write.")],
    tenant: AnyTenant = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Write all documents to Parquet files: their texts, their passages, metadata and vectors.

    The folder appears when all of it is written. A fleet may be running. An embedded system must not run.
    This is a command of the machine that has the system: there is no --server.
    """
    settings = settings_here(data_dir, config)
    manifest = asyncio.run(_export(settings, output, scope_of(tenant)))
    if as_json:
        print_json({"output": str(output), **manifest.json_document()})
    else:
        say(
            f"{output}: {manifest.documents:,} documents, {manifest.passages:,} passages, "
            f"{sum(one.vectors for one in manifest.collections):,} vectors"
        )
    _say_what_is_missing(manifest)


async def _export(settings: Settings, output: Path, scope: Scope) -> Manifest:
    from embedfleet.adoption.export_folder import export
    from embedfleet.bootstrap import open_stored
    from embedfleet.clock import SystemClock

    async with open_stored(settings, purpose="export") as (database, store):
        manifest = await export(database, store, output, scope, SystemClock(), _progress())
    if sys.stderr.isatty():
        show_progress(f"{manifest.documents:,} documents written", last=True)
    return manifest


def _progress() -> Progress | None:
    if not sys.stderr.isatty():
        return None

    def show(documents: int, passages: int) -> None:
        show_progress(f"{documents:,} documents, {passages:,} passages written", last=False)

    return show


def _say_what_is_missing(manifest: Manifest) -> None:
    """Say on stderr what is not in the export. Ends the command with a code of its own if there is any."""
    if manifest.passages_without_vector:
        warn(
            f"passages that were given up and have no vector: {manifest.passages_without_vector:,} "
            "(`embedfleet dlq list` names them)"
        )
    if manifest.documents_left_out:
        warn(
            f"documents without a version that readers see, left out: {manifest.documents_left_out:,} "
            "(`embedfleet documents list` names them)"
        )
    if manifest.passages_without_vector or manifest.documents_left_out:
        raise SystemExit(PARTLY_DONE)
