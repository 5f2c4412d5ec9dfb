"""`embedfleet ingest`: makes the files of folders searchable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.metadata_option import metadata_of
from embedfleet.cli.options import AsJson, ConfigFile, DataDir, Tenant, settings_from
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

if TYPE_CHECKING:
    from embedfleet.cli.ingest_report import IngestReport
    from embedfleet.cli.ingest_run import Prune
    from embedfleet.ingest import IngestOptions
    from embedfleet.queue_schemas import ChunkingConfig
    from embedfleet.settings import Settings


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


def ingest(
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
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Chunk, embed and store files. Unchanged ones are skipped, changed ones embed only what is new.

    FILE.meta.json beside FILE, a JSON object, holds metadata of FILE; it counts before --meta.

    --json writes each file as soon as its job has ended, in the order of the files, and the totals last.
    """
    from embedfleet import log
    from embedfleet.cli.ingest_run import Prune, run_ingest
    from embedfleet.ingest import IngestOptions

    settings = settings_from(data_dir, config)
    log.configure(level="WARNING", as_json=settings.monitoring.log_json)
    options = IngestOptions(
        tenant=tenant or settings.tenants.default_tenant,
        model=model,
        chunking=chunking_of(
            settings, chunk_size=chunk_size, overlap=overlap, unit=unit, method=method, context=context
        ),
        globs=tuple(glob or ()),
        strict=strict,
        metadata=metadata_of(meta or ()),
    )
    pruning = Prune.ALL if prune_all else Prune.UNLESS_MANY if prune else Prune.NONE
    if dry_run:
        _preview(settings, paths, options, pruning, as_json=as_json)
        return
    document = JsonDocument({"tenant": options.tenant}, "files") if as_json else None
    tell = None if document is None else document.add
    report = asyncio.run(run_ingest(settings, paths, options, prune=pruning, tell=tell, max_cost=max_cost))
    if document is not None:
        document.end(report.document())
    else:
        for line in report.lines():
            say(line)
    for name, files in report.kept_models.items():
        warn(f"model `{name}` is kept by the documents of {_files(files)}: --model moves them to another one")
    for name, files in report.left_models.items():
        warn(f"model `{name}` is not configured any more: {_files(files)} moved to the default model")
    _warn_of(report.problems)
    if report.over_budget is not None:
        warn(f"stopped, {_files(report.not_reached)} not reached: {report.over_budget}")
    raise SystemExit(_exit_code(report))


def _preview(
    settings: Settings, paths: list[Path], options: IngestOptions, pruning: Prune, *, as_json: bool
) -> None:
    from embedfleet.cli.ingest_preview import lines_of, preview, totals_of
    from embedfleet.cli.ingest_report import entry_of

    outcomes = asyncio.run(preview(settings, paths, options, prune=pruning))
    problems = [(one.source, one.error) for one in outcomes if one.error is not None]
    if as_json:
        entries = [entry_of(one, None) for one in outcomes]
        document = {"tenant": options.tenant, "dry_run": True, "files": entries}
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


def chunking_of(settings: Settings, **flags: object) -> ChunkingConfig:
    """The settings' chunking, changed by the flags that are given."""
    from embedfleet.errors import InvalidRequest

    given = {name: getattr(value, "value", value) for name, value in flags.items() if value is not None}
    try:
        return settings.chunking.changed(given)
    except InvalidRequest as exc:
        flag = "--" + exc.field.replace("_", "-")
        raise InvalidRequest(f"{flag}: {exc.reason}" if exc.field else exc.reason) from exc
