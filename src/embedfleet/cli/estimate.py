"""`embedfleet estimate`: what files would cost if they were ingested now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from embedfleet.cli.ingest import (
    ChunkSize,
    Context,
    CutMethod,
    Globs,
    Model,
    Overlap,
    Strict,
    UnitOfSizes,
    chunking_of,
    options_of,
)
from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import NOTHING_DONE, PARTLY_DONE, print_json, say, warn
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.ingest import IngestOptions
    from embedfleet.queue_schemas import DocumentEstimate, Estimate


@somewhere
def estimate(
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
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Say what an ingest would cost: tokens, chunks, money and time. Files are read; nothing is changed.

    Tokens are exact. Money needs `prices` in the settings. The time is that of the present workers, or of the
    latest jobs if none runs, without what waits before.
    """
    from embedfleet.queue_schemas import EstimateState

    async def run(system: System) -> tuple[str, _Estimates]:
        chunking = await chunking_of(
            system, chunk_size=chunk_size, overlap=overlap, unit=unit, method=method, context=context
        )
        options = await options_of(system, chunking, tenant=tenant, model=model, glob=glob, strict=strict)
        return options.tenant, await _estimate(system, paths, options)

    owner, (found, total, problems) = with_system(place, run)
    unreadable = [one for one in found if one.state is EstimateState.UNREADABLE]
    problems += [(one.source or one.media_id, one.error or "") for one in unreadable]
    if as_json:
        files = [one.json_document() for one in found]
        print_json({"tenant": owner, "files": files, "estimate": total.json_document()})
    else:
        say_estimate(total)
    for source, reason in problems:
        warn(f"error: {reason}" if reason.startswith(source) else f"error: {source}: {reason}")
    if problems:
        raise SystemExit(PARTLY_DONE if len(unreadable) < len(found) else NOTHING_DONE)


_Estimates: TypeAlias = "tuple[list[DocumentEstimate], Estimate, list[tuple[str, str]]]"
"""The estimates of all files, their sums, and (path, reason) for paths that cannot be used."""


async def _estimate(system: System, paths: Sequence[Path], options: IngestOptions) -> _Estimates:
    from embedfleet.cli.ingest_run import not_found
    from embedfleet.ingest import Ingest, find_files

    found = await asyncio.to_thread(find_files, paths, options.globs)
    problems = [(one.source, one.error or "") for one in not_found(found, pruning=False)]
    intake = await system.intake(options.tenant)
    estimates = [one async for one in Ingest(intake, options).estimate(found.files, intake)]
    jobs = await system.jobs_of(options.tenant)
    return estimates, await jobs.sum_of_estimates(estimates), problems


def say_estimate(total: Estimate) -> None:
    """Show the sums of an estimate, for a person."""
    there = f"{total.unchanged:,} unchanged, {total.under_way:,} under way, {total.unreadable:,} unreadable"
    say(f"documents  {total.embeds:,} to embed; {there}")
    say(f"text       {total.chars:,} characters, {total.bytes:,} bytes")
    cost = "no price is set for the model" if total.cost is None else f"{total.cost:.4f} {total.currency}"
    say(f"tokens     {total.tokens:,}: {cost}")
    known = f"{total.chunks_stored:,} are stored already, {total.chunks_cached:,} are in the cache"
    say(f"chunks     {total.chunks:,}: {known}, {total.chunks_to_embed:,} to embed")
    say(f"to embed   {total.tokens_to_embed:,} tokens, with overlaps and what stands above chunks")
    say(f"time       {_time(total)}")


def _time(total: Estimate) -> str:
    if total.seconds is None or total.tokens_per_second is None:
        return "not known: no worker has measured its rate, and the tenant has no job that ended"
    where = "of the workers now" if total.rate_source == "workers" else "of the latest jobs"
    rate = f"{total.tokens_per_second:,.0f} tokens a second"
    before = f", after {_duration(total.seconds_before)} for what waits" if total.seconds_before else ""
    return f"about {_duration(total.seconds)} at {rate}, the rate {where}{before}"


def _duration(seconds: float) -> str:
    """Return the time in a unit that gives a small number. It has two digits at most."""
    for unit, size in (("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
