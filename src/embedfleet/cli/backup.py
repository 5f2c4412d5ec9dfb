"""`embedfleet backup` and `embedfleet restore`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_here
from embedfleet.cli.output import PARTLY_DONE, print_json, readable_time, say, warn

if TYPE_CHECKING:
    from embedfleet.repair.backup import Manifest
    from embedfleet.settings import Settings


def backup(
    file: Annotated[Path, typer.Argument(help="Where to.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Copy everything but the vector store, which `restore` makes again. Workers may keep running."""
    from embedfleet.repair.backup import database_file, write_backup

    settings = settings_here(data_dir, config)
    manifest = write_backup(database_file(settings), file, overwrite=force)
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size, **_facts(manifest)})
    else:
        size = file.stat().st_size
        say(f"{file}: {manifest.documents} documents, {manifest.vectors} vectors, {size:,} bytes")


def restore(
    file: Annotated[Path, typer.Argument(help="What `embedfleet backup` wrote.")],
    force: Annotated[
        bool, typer.Option("--force", help="Move what is in the data directory aside (never deleted).")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a data directory from a backup, and verify it.

    The vector store is made from cached vectors, and with the model for the rest. Unfinished jobs go on at
    the next start.
    """
    settings = settings_here(data_dir, config)
    from embedfleet.repair.restoring import restore_database

    manifest, aside = asyncio.run(restore_database(settings, file, replace=force))
    if aside is not None:
        warn(f"what was in the data directory is in {aside} now")
    left, cached, embedded = asyncio.run(_rebuild_and_verify(settings))
    if as_json:
        print_json(
            {
                "data_dir": str(settings.data_dir),
                "put_aside": None if aside is None else str(aside),
                "clean": not left,
                "cached": cached,
                "embedded": embedded,
                **_facts(manifest),
            }
        )
    else:
        say(
            f"{settings.data_dir}: {manifest.documents} documents, {manifest.vectors} vectors as of "
            f"{readable_time(manifest.created)} ({cached} from the cache, {embedded} embedded); "
            + ("verified" if not left else f"{left} differences")
        )
    if left:
        warn(f"{left} rows could not be mended: `embedfleet verify` names them")
        raise SystemExit(PARTLY_DONE)


async def _rebuild_and_verify(settings: Settings) -> tuple[int, int, int]:
    from embedfleet.cli.verify import rebuild_store, verify_store
    from embedfleet.records.scope import EveryTenant

    rebuilt = await rebuild_store(settings, EveryTenant())
    verified = await verify_store(settings, EveryTenant())
    return verified.left, rebuilt.cached, rebuilt.embedded


def _facts(manifest: Manifest) -> dict[str, object]:
    return manifest.model_dump(mode="json", by_alias=True)
