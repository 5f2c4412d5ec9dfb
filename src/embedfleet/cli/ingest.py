"""`embedfleet ingest`: makes the files of folders searchable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.metadata_option import metadata_of
from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import (
    DONE,
    INTERRUPTED,
    NOTHING_DONE,
    PARTLY_DONE,
    JsonDocument,
    print_json,
    say,
    warn,
)
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.ingest_report import IngestReport
    from embedfleet.cli.ingest_run import Prune
    from embedfleet.cli.systems.port import System
    from embedfleet.ingest import FileOutcome, IngestOptions
    from embedfleet.queue_schemas import ChunkingConfig


class Unit(StrEnum):
    """The values of ChunkUnit (not imported here, as that would slow down `--help`)."""

    CHARS = "chars"
    TOKENS = "tokens"


class Method(StrEnum):
    """The values of ChunkMethod."""

    RECURSIVE = "recursive"
    SENTENCES = "sentences"
    PARAGRAPHS = "paragraphs"
    TOKENS = "tokens"


Model = Annotated[
    str | None,
    typer.Option("--model", help="See `embedfleet models`. Without it, a document keeps its model."),
]
ChunkSize = Annotated[int | None, typer.Option("--chunk-size", help="Largest chunk, in --unit.")]
Overlap = Annotated[int | None, typer.Option("--overlap", help="Repeated from the chunk before.")]
UnitOfSizes = Annotated[Unit | None, typer.Option("--unit", help="What sizes are counted in.")]
CutMethod = Annotated[Method | None, typer.Option("--method", help="Where chunks may end.")]
Context = Annotated[
    bool | None,
    typer.Option("--context/--no-context", help="Embed title and headings before each chunk."),
]
Globs = Annotated[
    list[str] | None,
    typer.Option("--glob", help="Only these files of folders, e.g. '*.md'; may be repeated."),
]
PruneFlag = Annotated[
    bool,
    typer.Option(
        "--prune", help="Delete documents whose files are gone, unless the folder is empty or most would go."
    ),
]
PruneAll = Annotated[
    bool, typer.Option("--prune-all", help="Delete them in any case, if the folder is there.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be ingested and deleted; change nothing.")
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--meta", help="NAME=VALUE, for `search --where`; may be repeated, also for a list."),
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", min=0, help="Stop before the file that would make it cost more, by `prices`."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail each document of which content would be lost.")]


@somewhere
def ingest(
    place: Place,
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.", show_default=False)],
    tenant: Tenant = None,
    model: Model = None,
    chunk_size: ChunkSize = None,
    overlap: Overlap = None,
    unit: UnitOfSizes = None,
    method: CutMethod = None,
    context: Context = None,
    glob: Globs = None,
    prune: PruneFlag = False,
    prune_all: PruneAll = False,
    dry_run: DryRun = False,
    strict: Strict = False,
    meta: Metadata = None,
    max_cost: MaxCost = None,
    as_json: AsJson = False,
) -> None:
    """Chunk, embed and store files. Unchanged ones are skipped, changed ones embed only what is new.

    FILE.meta.json beside FILE, a JSON object, holds metadata of FILE; it counts before --meta.

    --json writes each file as soon as its job has ended, in the order of the files, and the totals last.
    """
    from embedfleet import log
    from embedfleet.cli.ingest_run import Prune, run_ingest

    log.configure(level="WARNING", as_json=place.log_json)
    metadata = metadata_of(meta or ())
    pruning = Prune.ALL if prune_all else Prune.UNLESS_MANY if prune else Prune.NONE

    async def options(system: System) -> IngestOptions:
        chunking = await chunking_of(
            system, chunk_size=chunk_size, overlap=overlap, unit=unit, method=method, context=context
        )
        chosen = await options_of(system, chunking, tenant=tenant, model=model, glob=glob, strict=strict)
        return replace(chosen, metadata=metadata)

    if dry_run:
        _preview(place, paths, options, pruning, as_json=as_json)
        return
    document: JsonDocument | None = None

    async def run(system: System) -> IngestReport:
        nonlocal document
        chosen = await options(system)
        document = JsonDocument({"tenant": chosen.tenant}, "files") if as_json else None
        tell = None if document is None else document.add
        return await run_ingest(system, paths, chosen, prune=pruning, tell=tell, max_cost=max_cost)

    report = with_system(place, run)
    if document is not None:
        document.end(report.document())
    else:
        for line in report.lines():
            say(line)
    _warn_of_the_rest(report)
    raise SystemExit(_exit_code(report))


def _warn_of_the_rest(report: IngestReport) -> None:
    """Say what the totals do not: models that were kept or left, problems, and where a budget ended it."""
    for name, files in report.kept_models.items():
        warn(f"model `{name}` is kept by the documents of {_files(files)}: --model moves them to another one")
    for name, files in report.left_models.items():
        warn(f"model `{name}` is not configured any more: {_files(files)} moved to the default model")
    _warn_of(report.problems)
    if report.over_budget is not None:
        warn(f"stopped, {_files(report.not_reached)} not reached: {report.over_budget}")


def _preview(
    place: Place,
    paths: list[Path],
    options: Callable[[System], Awaitable[IngestOptions]],
    pruning: Prune,
    *,
    as_json: bool,
) -> None:
    from embedfleet.cli.ingest_preview import lines_of, preview, totals_of
    from embedfleet.cli.ingest_report import entry_of

    async def look(system: System) -> tuple[IngestOptions, list[FileOutcome]]:
        chosen = await options(system)
        return chosen, await preview(system, paths, chosen, prune=pruning)

    chosen, outcomes = with_system(place, look)
    problems = [(one.source, one.error) for one in outcomes if one.error is not None]
    if as_json:
        entries = [entry_of(one, None) for one in outcomes]
        document = {"tenant": chosen.tenant, "dry_run": True, "files": entries}
        print_json(document | {"totals": totals_of(outcomes)})
    else:
        for line in lines_of(outcomes):
            say(line)
    _warn_of(problems)
    if problems:
        raise SystemExit(PARTLY_DONE if len(problems) < len(outcomes) else NOTHING_DONE)


def _warn_of(problems: Sequence[tuple[str, str]]) -> None:
    for source, reason in problems:
        warn(f"error: {reason}" if reason.startswith(source) else f"error: {source}: {reason}")


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _exit_code(report: IngestReport) -> int:
    if report.interrupted:
        return INTERRUPTED
    if not report.problems and report.over_budget is None:
        return DONE
    return PARTLY_DONE if report.something_done else NOTHING_DONE


async def options_of(
    system: System,
    chunking: ChunkingConfig,
    *,
    tenant: str | None,
    model: str | None,
    glob: Sequence[str] | None,
    strict: bool,
) -> IngestOptions:
    """What the options of a command over files say, for the tenant that the system takes them for."""
    from embedfleet.ingest import IngestOptions

    return IngestOptions(
        tenant=await system.tenant(tenant),
        model=model,
        chunking=chunking,
        globs=tuple(glob or ()),
        strict=strict,
    )


async def chunking_of(system: System, **flags: object) -> ChunkingConfig:
    """The system's chunking, changed by the flags that are given."""
    from embedfleet.errors import InvalidRequest

    given = {name: getattr(value, "value", value) for name, value in flags.items() if value is not None}
    try:
        return await system.chunking(given)
    except InvalidRequest as exc:
        flag = "--" + exc.field.replace("_", "-")
        raise InvalidRequest(f"{flag}: {exc.reason}" if exc.field else exc.reason) from exc
