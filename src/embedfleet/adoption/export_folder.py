"""The folder of an export: it appears whole or not at all, with a manifest that says what is in it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from embedfleet.adoption.exporting import Exported, Exporting
from embedfleet.adoption.parquet_files import Written, sync
from embedfleet.clock import Clock
from embedfleet.errors import ConfigError, InvalidRequest, Remedy, UnknownTenant
from embedfleet.records import live_versions
from embedfleet.records.scope import OneTenant, Scope
from embedfleet.sql.database import Database
from embedfleet.vectors.port import VectorStore

_MANIFEST = "manifest.json"

Progress = Callable[[int, int], None]
"""Called with (documents, passages) written so far."""


class ExportedFiles(BaseModel):
    """The Parquet files of one of the two folders, in order, and the rows in all of them."""

    model_config = ConfigDict(frozen=True)

    files: list[str]
    rows: int


class ExportedCollection(BaseModel):
    """Vectors of one tenant and one space that are in an export."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    model: str
    space: str
    dim: int
    vectors: int


class Manifest(BaseModel):
    """Describes an export, inside of it.

    `tenant`: whose documents it has; None for those of all. `passages_without_vector` were given up when they
    were embedded or stored. `documents_left_out` have no version that readers see. `folders`: what is in
    `documents` and in `passages`.
    """

    model_config = ConfigDict(frozen=True)

    format: int = Field(default=1, ge=1, le=1)
    release: str
    created: datetime
    tenant: str | None
    documents: int
    passages: int
    passages_without_vector: int
    documents_left_out: int
    collections: list[ExportedCollection]
    folders: dict[str, ExportedFiles]

    def json_document(self) -> dict[str, Any]:
        """Return the stable form of `manifest.json` and of `--json`."""
        return self.model_dump(mode="json")


async def export(
    database: Database,
    store: VectorStore,
    target: Path,
    scope: Scope,
    clock: Clock,
    progress: Progress | None = None,
) -> Manifest:
    """Write all documents of the scope that readers see, with their vectors, to the new folder `target`.

    The folder appears complete or not at all. Raises InvalidRequest if it exists and is not empty, or if
    there is no folder to put it in; UnknownTenant if the scope is a tenant without documents; ConfigError if
    it cannot be written; and as `Exporting.run` does.
    """
    await _require_documents(database, scope)
    try:
        scratch = await asyncio.to_thread(_begin, target)
        try:
            folder = Path(scratch.name) / "export"  # the scratch folder itself stays, to be removed
            exporting = await asyncio.to_thread(Exporting, database, store, folder)
            manifest = await _write(exporting, database, scope, clock, progress)
            await asyncio.to_thread(_complete, folder, manifest, target)
        finally:
            await asyncio.to_thread(scratch.cleanup)
    except OSError as exc:
        raise ConfigError(f"{target}: cannot write it ({exc.strerror or exc}): choose another place") from exc
    return manifest


def _begin(target: Path) -> TemporaryDirectory[str]:
    """Make the scratch folder beside the target: on the same file system, where a rename is one step."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidRequest(f"{target} exists and is no empty folder: name a new folder for the export")
    parent = target.absolute().parent
    if not parent.is_dir():
        raise InvalidRequest(f"{parent} is no folder: make it, or name another place")
    return TemporaryDirectory(prefix=f".{target.name}.", dir=parent)


async def _write(
    exporting: Exporting, database: Database, scope: Scope, clock: Clock, progress: Progress | None
) -> Manifest:
    created = datetime.fromtimestamp(clock.now(), UTC)
    # Before the documents are read: one that gets its first version in between is counted, and perhaps
    # written too. After them, one that gets it then would be neither.
    left_out = await database.read(partial(live_versions.count_without, scope=scope))
    done = Exported()
    async for page in exporting.run(scope):
        done.include(page)
        if progress is not None:
            progress(done.documents, done.passages)
    documents, passages = await exporting.close()
    return Manifest(
        release=version("embedfleet"),
        created=created,
        tenant=scope.tenant if isinstance(scope, OneTenant) else None,
        documents=done.documents,
        passages=done.passages,
        passages_without_vector=done.without_vector,
        documents_left_out=left_out,
        collections=[
            ExportedCollection(
                tenant=one.tenant, model=one.model, space=one.space, dim=one.dim, vectors=count
            )
            for one, count in done.vectors.items()
        ],
        folders={"documents": _described(documents), "passages": _described(passages)},
    )


def _described(written: Written) -> ExportedFiles:
    return ExportedFiles(files=list(written.files), rows=written.rows)


def _complete(folder: Path, manifest: Manifest, target: Path) -> None:
    """Write the manifest and put the folder in its place. All of it is on the disk on return."""
    described = folder / _MANIFEST
    described.touch(mode=0o600)
    described.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    sync(described)
    sync(folder)
    if target.exists():
        target.rmdir()  # one that was filled in between refuses it; Windows renames to no existing folder
    os.rename(folder, target)
    sync(target.absolute().parent)


async def _require_documents(database: Database, scope: Scope) -> None:
    """A tenant that is spelled wrong has none, which must not look as if all was written."""
    if isinstance(scope, OneTenant) and not await database.read(partial(live_versions.tenants, scope=scope)):
        raise UnknownTenant(
            f"tenant `{scope.tenant}` has no documents: check the spelling", remedy=Remedy.LIST_TENANTS
        )
