"""`embedfleet models remove`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, file_to_change, settings_from
from embedfleet.cli.output import print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from embedfleet.settings import CatalogueFile, ModelSettings, Settings


def remove(
    name: Annotated[str, typer.Argument(help="A model of the settings file.")],
    files: Annotated[
        bool, typer.Option("--files", help="Also what was downloaded and kept for it on this machine.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if documents are embedded with it: they are not found then.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Take a model out of the settings file; comments stay."""
    from embedfleet.settings import CatalogueFile

    file = file_to_change(config)
    before = CatalogueFile.read(file)
    _require_entry(before, name)
    settings = settings_from(data_dir, file)
    if not force:
        _require_unused(settings, name)
    entry = settings.models.catalogue[name]
    kept = _kept_files(settings, name) if files else []
    before.without_entry(name).save(before)
    freed = sum(path.stat().st_size for path in kept)
    for path in kept:
        path.unlink()
    if files and entry.hub is not None and not _shares_files(settings, name, entry):
        from embedfleet.inference.hub import forget

        freed += forget(entry)
    if as_json:
        print_json({"removed": name, "config": str(file), "freed_bytes": freed})
    else:
        say(f"{name}: taken out of {file}" + (f", {freed / 1e6:,.0f} MB freed" if files else ""))


def _require_entry(file: CatalogueFile, name: str) -> None:
    from embedfleet.errors import InvalidRequest, UnknownModel, hint
    from embedfleet.inference.catalogue import BUILT_IN

    if name in file.entries():
        return
    if name in BUILT_IN:
        raise InvalidRequest(
            f"`{name}` is built in: it costs nothing where it is not used, and cannot be removed"
        )
    known = hint(name, file.entries()) if file.entries() else "it has no models of its own"
    raise UnknownModel(f"no model `{name}` in {file.path}: {known}")


def _require_unused(settings: Settings, name: str) -> None:
    """Raises InvalidRequest if the settings, a tenant or a switch name the model, or documents are embedded
    with it."""
    from embedfleet.errors import InvalidRequest

    uses_of_settings = {
        "models.default": [settings.models.default],
        "worker_pools.embedding.models": settings.worker_pools.embedding.models,
        "models.routing": [rule.model for rule in settings.models.routing.rules],
    }
    which = next((place for place, names in uses_of_settings.items() if name in names), None)
    if which is not None:
        raise InvalidRequest(f"`{name}` is in {which}: name another there first, or --force")
    uses = asyncio.run(_uses_in_sql(settings, name))
    # First, as the documents of a switch, or of a comparison, may be copies.
    if uses.switches:
        raise InvalidRequest(
            f"`{name}` is in the switch or the comparison under way of {', '.join(uses.switches)}: retire or "
            "end that first, or --force"
        )
    if uses.documents:
        named = ", ".join(f"{tenant} ({documents})" for tenant, documents in sorted(uses.documents.items()))
        raise InvalidRequest(
            f"`{name}` is the model of documents of {named}: delete them or switch them to another model, or "
            "--force"
        )
    if uses.routing:
        raise InvalidRequest(
            f"`{name}` is chosen for what {', '.join(uses.routing)} will submit, by rules or by a switch: "
            "change the rules, or switch to another model first, or --force"
        )


@dataclass(frozen=True, slots=True)
class _Uses:
    """Who uses a model: the numbers of its documents by tenant, the tenants that are switched from or to it,
    and those whose rules or own model name it."""

    documents: Mapping[str, int]
    switches: Sequence[str]
    routing: Sequence[str]


async def _uses_in_sql(settings: Settings, name: str) -> _Uses:
    from embedfleet.records import model_switches, tenants
    from embedfleet.records.documents import documents_by_tenant
    from embedfleet.sql.opening import open_database

    def look(conn: Connection) -> _Uses:
        return _Uses(
            documents_by_tenant(conn, model=name),
            [
                one.tenant
                for one in model_switches.running(conn)
                if name in {each.model for each in (*one.sources, one.to_collection)}
            ],
            [
                row.tenant
                for row in tenants.get_all(conn)
                if name in (row.routing.model, *(rule.model for rule in row.routing.rules))
            ],
        )

    if settings.database.url is None and not settings.data_dir.exists():
        return _Uses({}, (), ())  # no data directory, so nothing uses it: do not create one
    database = open_database(settings)
    try:
        await database.open()
        return await database.read(look)
    finally:
        await database.close()


def _shares_files(settings: Settings, name: str, entry: ModelSettings) -> bool:
    """Whether another entry of the catalogue needs the same files."""
    return any(
        other.hub == entry.hub
        and (other.revision == entry.revision or None in (other.revision, entry.revision))
        for other_name, other in settings.models.catalogue.items()
        if other_name != name
    )


def _kept_files(settings: Settings, name: str) -> list[Path]:
    """The files that were made for the model on this machine: calibrations and the optimised graph."""
    from embedfleet.errors import ModelError
    from embedfleet.inference.backends.onnx_graphs import kept_graph
    from embedfleet.inference.calibration import Calibrations
    from embedfleet.inference.catalogue import Catalogue

    catalogue = Catalogue(settings.models)
    kept = Calibrations(catalogue.cache_dir).of_model(name)
    if catalogue.settings_of(name).backend == "onnx":
        with suppress(ModelError):  # which graph it is depends on the weights, and they may be gone
            graph = kept_graph(catalogue.describe(name).files, catalogue.cache_dir)
            kept += [graph] if graph.is_file() else []
    return kept
