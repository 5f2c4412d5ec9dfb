"""`embedfleet ingest --dry-run`: says what an ingest would do, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedfleet.cli.ingest_run import Prune, not_found, plans_of, refused_outcome
from embedfleet.cli.systems.port import System
from embedfleet.ingest import FileOutcome, FileState, Ingest, IngestOptions, find_files

_VERBS = {
    FileState.SUBMITTED: "would ingest",
    FileState.RESUMED: "would go on with",
    FileState.PRUNED: "would delete",
}


async def preview(
    system: System, paths: Sequence[Path], options: IngestOptions, *, prune: Prune
) -> list[FileOutcome]:
    """Return what an ingest would do with each file and each document whose file is gone."""
    await system.require_model(options.model)
    found = await asyncio.to_thread(find_files, paths, options.globs)
    outcomes = list(not_found(found, pruning=prune is not Prune.NONE))
    ingest = Ingest(await system.intake(options.tenant), options)
    outcomes += [outcome async for outcome in ingest.preview(found.files)]
    if prune is not Prune.NONE:
        for plan in await plans_of(await system.jobs_of(options.tenant), found):
            if plan.refusal is not None and prune is not Prune.ALL:
                outcomes.append(refused_outcome(plan))
            outcomes += [FileOutcome(one.source, FileState.PRUNED) for one in plan.gone]
    return outcomes


def lines_of(outcomes: Sequence[FileOutcome]) -> list[str]:
    """The preview for people: a line for each file that something happens to, then the sums."""
    lines = [f"{_VERBS[one.state]} {one.source}" for one in outcomes if one.state in _VERBS]
    totals = totals_of(outcomes)
    return [
        *lines,
        f"dry run: {totals['ingested']} to ingest, {totals['unchanged']} unchanged, "
        f"{totals['pruned']} to delete, {totals['failed']} failed; nothing was changed",
    ]


def totals_of(outcomes: Sequence[FileOutcome]) -> dict[str, Any]:
    """The sums, by the names that the totals of an ingest have."""
    states = [one.state for one in outcomes]
    return {
        "ingested": states.count(FileState.SUBMITTED) + states.count(FileState.RESUMED),
        "unchanged": states.count(FileState.UNCHANGED),
        "pruned": states.count(FileState.PRUNED),
        "failed": states.count(FileState.FAILED),
    }
