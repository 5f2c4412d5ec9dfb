"""`embedfleet adopt`: takes over collections that another system filled."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from embedfleet.cli.adopt_options import (
    Chroma,
    Collections,
    DocumentKey,
    DryRun,
    EmbedWrong,
    Lancedb,
    Layout,
    LeastCosine,
    LeaveDeleted,
    ModelsOf,
    Pgvector,
    Sample,
    TextFrom,
)
from embedfleet.cli.options import AsJson, ConfigFile, DataDir, Tenant, settings_here
from embedfleet.cli.output import PARTLY_DONE, print_json, say, say_table, show_progress, warn
from embedfleet.document_metadata import shown
from embedfleet.wording import number_of

if TYPE_CHECKING:
    from embedfleet.adoption.adopting import Progress
    from embedfleet.adoption.options import AdoptOptions
    from embedfleet.adoption.report import Report
    from embedfleet.settings import Settings

_MOST_REFUSALS = 10
_MOST_LOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class _Named:
    """What the options name: the source, its layout, and where the texts are."""

    kind: str
    place: str
    layout: str
    tenant: str
    document_key: str | None
    text_from: str | None


def adopt(
    chroma: Chroma = None,
    lancedb: Lancedb = None,
    pgvector: Pgvector = None,
    layout: Layout = "plain",
    collection: Collections = None,
    tenant: Tenant = None,
    document_key: DocumentKey = None,
    model: ModelsOf = None,
    text_from: TextFrom = None,
    sample: Sample = 100,
    least_cosine: LeastCosine = 0.999,
    embed_wrong: EmbedWrong = False,
    leave_deleted: LeaveDeleted = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Take over collections that another system filled, without embedding again what is right.

    The source is only read. Stop the system that writes it. May be interrupted and run again: what is here
    already is left alone. An embedded system must not run at the same time, except beside a dry run. Exit
    code 3 if something was refused.
    """
    from embedfleet.adoption.options import AdoptOptions

    settings = settings_here(data_dir, config)
    options = AdoptOptions(
        collections=tuple(collection or ()),
        models=_models(model or ()),
        sample=sample,
        least_cosine=least_cosine,
        embed_wrong=embed_wrong,
        leave_deleted=leave_deleted,
    )
    kind, place = _source({"chroma": chroma, "lancedb": lancedb, "pgvector": pgvector})
    named = _Named(kind, place, layout, tenant or settings.tenants.default_tenant, document_key, text_from)
    report = asyncio.run(_adopt(settings, named, options, dry_run=dry_run))
    if report.job_ids:
        asyncio.run(_embed(settings, report.job_ids))
    _tell(report, as_json=as_json)


def _source(given: Mapping[str, str | None]) -> tuple[str, str]:
    """Return the kind and the place of the one source that is given."""
    named = [(kind, place) for kind, place in given.items() if place]
    if len(named) != 1:
        raise typer.BadParameter(f"give one of {', '.join(f'--{kind}' for kind in given)}")
    return named[0]


def _models(given: Sequence[str]) -> dict[str, str]:
    """Return configured models by what the source calls them, "" for every other one."""
    found: dict[str, str] = {}
    for one in given:
        theirs, _, name = one.rpartition("=")
        found[theirs] = name
    return found


async def _adopt(settings: Settings, named: _Named, options: AdoptOptions, *, dry_run: bool) -> Report:
    from embedfleet.adoption.adopting import Adoption
    from embedfleet.adoption.layout import LayoutOptions
    from embedfleet.adoption.layouts import layout_of
    from embedfleet.adoption.texts import text_source_of
    from embedfleet.bootstrap import open_adoption
    from embedfleet.vectors.registry import source_kind

    _refuse_own_store(settings, named)
    layout = layout_of(named.layout, LayoutOptions(named.tenant, named.document_key))
    texts = None if named.text_from is None else text_source_of(named.text_from)
    async with open_adoption(settings, purpose="embedfleet adopt", writing=not dry_run) as target:
        source = await source_kind(named.kind).open_source(named.place, scratch=_scratch(settings))
        try:
            return await Adoption(source, layout, target, options, texts=texts).run(_progress())
        finally:
            await source.close()


def _refuse_own_store(settings: Settings, named: _Named) -> None:
    """Raise BadParameter for the directory of this very system. What it has is here already."""
    from embedfleet.vectors.registry import store_kind

    own = store_kind(settings.vector_store.kind).own_directory(settings)
    if own is not None and own.exists() and Path(named.place).exists() and own.samefile(named.place):
        raise typer.BadParameter("it is the vector store of this system: name that of another one")


def _scratch(settings: Settings) -> Path:
    """Return where a copy of the source may be made: beside the data, where there is room for them."""
    return settings.data_dir if settings.data_dir.is_dir() else Path(tempfile.gettempdir())


async def _embed(settings: Settings, job_ids: Sequence[str]) -> None:
    """Have workers embed again what was not taken, and wait for the end."""
    from embedfleet.bootstrap import open_guest
    from embedfleet.cli.systems.workers import work_until
    from embedfleet.cli.workers_host import WorkersHost

    workers = WorkersHost(settings, purpose="embedfleet adopt", announce=warn)

    async def ended() -> None:
        async with open_guest(settings) as guest:
            await guest.jobs.of_all_tenants().wait_many(job_ids)

    await work_until(workers, ended)


def _progress() -> Progress | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        show_progress(f"{done:,} of {of:,} documents", last=done >= of)

    return show


def _tell(report: Report, *, as_json: bool) -> None:
    """Say what was done. Raises SystemExit if something was refused."""
    if as_json:
        print_json(_document(report))
    else:
        _show(report)
    for refusal in report.refusals[:_MOST_REFUSALS]:
        warn(f"error: {refusal}")
    if not report.whole:
        raise SystemExit(PARTLY_DONE)


def _show(report: Report) -> None:
    say(f"{report.place}: {_size(report)}")
    if report.left_alone:
        say(f"left alone, as the layout does not know them: {', '.join(report.left_alone)}")
    if report.unattributed_rows:
        say(f"left alone, as they name no document: {report.unattributed_rows:,} rows")
    if report.view_rows:
        say(f"left alone, as a view of embedfleet wrote them: {report.view_rows:,} rows")
    for one in report.groups:
        model = "" if one.model is None else f" (model {one.model})"
        say(f"{one.outcome.value:<6} {one.group.label}{model}: {one.rows:,} rows; {one.reason}")
    rows = [
        [outcome.value, f"{tally.documents:,}", f"{tally.rows:,}", reason.value]
        for (outcome, reason), tally in sorted(report.tallies.items())
    ]
    if rows:
        say_table(["", "documents", "rows", "why"], rows, right=(1, 2))
    if report.stale_rows:
        say(f"stale or repeated rows of documents that are taken, left out: {report.stale_rows:,}")
    if report.lost_metadata:
        say(f"metadata that a document here cannot have, left out: {_lost(report)}")
    if report.restored:
        say(f"deleted here before, and back because the source still has them: {report.restored:,} documents")
    taken = "would not be" if report.dry_run else "were not"
    say(f"tokens that {taken} embedded again: {report.tokens_taken:,}")
    if report.estimate is not None and report.estimate.documents:
        from embedfleet.cli.estimate import say_estimate

        say_estimate(report.estimate)


def _lost(report: Report) -> str:
    """Return the names that are lost most often, with the documents of each."""
    most = sorted(report.lost_metadata.items(), key=lambda one: (-one[1], one[0]))
    named = [f"{shown(name)} of {count:,} documents" for name, count in most[:_MOST_LOST_NAMES]]
    more = len(most) - len(named)
    return ", ".join(named) + (f", and {more:,} other names" if more else "")


def _size(report: Report) -> str:
    size = f"{number_of(len(report.collections), 'collection')}, {number_of(report.rows, 'row')}"
    other = [one for one in report.distances if one != "cosine"]
    return f"{size}; compared there by {' and '.join(other)}, here by cosine" if other else size


def _document(report: Report) -> dict[str, Any]:
    return {
        "place": report.place,
        "dry_run": report.dry_run,
        "collections": list(report.collections),
        "distances": list(report.distances),
        "left_alone": list(report.left_alone),
        "rows": report.rows,
        "unattributed_rows": report.unattributed_rows,
        "view_rows": report.view_rows,
        "groups": [
            {
                "provider": one.group.provider,
                "source_model": one.group.model,
                "dim": one.group.dim,
                "rows": one.rows,
                "outcome": one.outcome.value,
                "model": one.model,
                "compared": one.sample.compared,
                "same": one.sample.same,
                "lowest_cosine": one.sample.lowest,
                "reason": one.reason,
            }
            for one in report.groups
        ],
        "documents": [
            {
                "outcome": outcome.value,
                "reason": reason.value,
                "documents": tally.documents,
                "rows": tally.rows,
                "examples": [{"tenant": key.tenant, "media_id": key.media_id} for key in tally.examples],
            }
            for (outcome, reason), tally in sorted(report.tallies.items())
        ],
        "stale_rows": report.stale_rows,
        "lost_metadata": report.lost_metadata,
        "restored": report.restored,
        "tokens_taken": report.tokens_taken,
        "jobs": len(report.job_ids),
        "refusals": report.refusals,
        "estimate": None if report.estimate is None else report.estimate.json_document(),
    }
