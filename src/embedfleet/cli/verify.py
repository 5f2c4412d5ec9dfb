"""`embedfleet verify` and `embedfleet rebuild`."""

from __future__ import annotations

import asyncio
import secrets
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.options import AnyTenant, AsJson, ConfigFile, DataDir, scope_of, settings_here
from embedfleet.cli.output import PARTLY_DONE, confirm, print_json, say, show_progress, warn
from embedfleet.errors import EmbedfleetError

if TYPE_CHECKING:
    from embedfleet.bootstrap import RepairSystem
    from embedfleet.records.scope import Scope
    from embedfleet.repair.verification import Differences, Progress, Sampling
    from embedfleet.settings import Settings
    from embedfleet.views.verification import ViewDifferences
    from embedfleet.views.view import View


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found in each collection, how much of it was mended, and how many vectors that took.

    `put_aside`: where a vector store that could not be used is now.
    """

    found: list[tuple[Differences, int]]
    embedded: int
    cached: int
    put_aside: str | None = None
    views: list[tuple[ViewDifferences, int]] = field(default_factory=list)

    @property
    def left(self) -> int:
        """How many differences are left."""
        of_views = sum(differences.count - mended for differences, mended in self.views)
        return of_views + sum(differences.count - mended for differences, mended in self.found)


def verify(
    tenant: AnyTenant = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Write what is missing or wrong, delete what is extra."),
    ] = False,
    sample: Annotated[
        float,
        typer.Option(
            "--sample", min=0.0, max=1.0, help="Embed this share of the matching rows again, to be sure."
        ),
    ] = 0.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of the sample.", show_default="a new one, printed")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Compare every row of the vector store with SQL. Exit code 3 if differences are left.

    A fleet may be running. An embedded system must not run.
    """
    from embedfleet.repair.verification import Sampling

    settings = settings_here(data_dir, config)
    seed = secrets.randbelow(2**31) if seed is None else seed
    sampling = Sampling(sample, seed) if sample else None
    outcome = asyncio.run(verify_store(settings, scope_of(tenant), sampling=sampling, repair=repair))
    _warn_of_no_vectors(outcome, tenant)
    more = {} if sampling is None else {"sample": sample, "seed": seed}
    _show(outcome, as_json, more)


def rebuild(
    tenant: AnyTenant = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Empty the vector store and fill it again: from cached vectors, and with the model for the rest.

    Searches find less until it is done. May be interrupted and run again.
    """
    settings = settings_here(data_dir, config)
    whose = "every tenant" if tenant is None else f"tenant `{tenant}`"
    confirm(f"Drop the vectors of {whose} and write them again?", yes=yes)
    outcome = asyncio.run(rebuild_store(settings, scope_of(tenant)))
    _warn_of_no_vectors(outcome, tenant)
    _show(outcome, as_json, {})


def _warn_of_no_vectors(outcome: Outcome, tenant: str | None) -> None:
    """A tenant that is spelled wrong has none, which must not look as if all was right."""
    if tenant is not None and not outcome.found:
        warn(f"tenant `{tenant}` has no vectors: check the spelling")


async def verify_store(
    settings: Settings, scope: Scope, *, sampling: Sampling | None = None, repair: bool = False
) -> Outcome:
    """Compare the vector store with SQL; with `repair`, mend the differences."""
    from embedfleet.bootstrap import open_repair

    async with open_repair(
        settings, purpose="verify", scope=scope, filling=repair, sampling=sampling
    ) as system:
        return await _check(system, repair=repair)


async def rebuild_store(settings: Settings, scope: Scope) -> Outcome:
    """Empty the vector store and fill it again."""
    from embedfleet.bootstrap import open_repair

    async with open_repair(settings, purpose="rebuild", scope=scope, empty=True) as system:
        return await _check(system, repair=True, empty=True)


async def _check(system: RepairSystem, *, repair: bool, empty: bool = False) -> Outcome:
    found: list[tuple[Differences, int]] = []
    for collection in system.collections:
        differences = await system.verification.check(
            collection, check_without_checksum=repair, progress=_progress(collection.tenant, "compared")
        )
        mended = 0
        if repair:
            mended = await system.rebuilding.mend(
                differences, progress=_progress(collection.tenant, "written")
            )
        found.append((differences, mended))
    aside = None if system.put_aside is None else str(system.put_aside)
    # After the main store, whose vectors the views show.
    views = [
        await _check_view(system, view, tenant, repair=repair, empty=empty)
        for view in system.views
        for tenant in system.tenants
    ]
    return Outcome(found, system.truth.embedded, system.truth.cached, aside, views)


async def _check_view(
    system: RepairSystem, view: View, tenant: str, *, repair: bool, empty: bool
) -> tuple[ViewDifferences, int]:
    """Compare a tenant's collection in a view. Return the differences, and how many of them are mended.

    With `repair` it mends them. With `empty` it deletes our rows first. A view that cannot be written has a
    `problem`, as the others must not wait for it.
    """
    mending = system.view_mending[view.name]
    found = await system.view_verification.check(view, tenant)
    mended = 0
    try:
        if empty and found.problem is None:
            await mending.empty(tenant)
            found = await system.view_verification.check(view, tenant)
        if repair and found.count and found.problem is None:
            mended = await mending.mend(found)
    except EmbedfleetError as exc:
        found.problem = str(exc)
    return found, mended


def _progress(tenant: str, verb: str) -> Progress | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        show_progress(f"{tenant}: {done:,} of {of:,} {verb}", last=done >= of)

    return show


def _show(outcome: Outcome, as_json: bool, more: dict[str, Any]) -> None:
    if as_json:
        print_json(_document(outcome) | more)
    else:
        for differences, mended in outcome.found:
            say(_line(differences, mended))
        for seen, mended in outcome.views:
            say(_view_line(seen, mended))
        if more:
            say(f"sampled with --sample {more['sample']} --seed {more['seed']}")
        say(f"vectors from the cache: {outcome.cached}, embedded: {outcome.embedded}")
    if outcome.put_aside is not None:
        warn(f"the store that could not be used is in {outcome.put_aside}: delete it when all is well")
    if outcome.left:
        warn(f"{outcome.left} differences are left: `embedfleet verify --repair` mends what can be mended")
        raise SystemExit(PARTLY_DONE)


def _line(found: Differences, mended: int) -> str:
    kinds = {
        "missing": found.missing,
        "extra": found.extra,
        "wrong": found.wrong,
        "cannot be judged": found.undecided,
        "rounded": found.rounded,
        "without checksum": found.without_checksum,
    }
    parts = [f"{len(ids)} {kind}" for kind, ids in kinds.items() if ids]
    if found.sampled:
        parts.append(f"{found.sampled} embedded again")
    if found.count:
        parts.append(f"{mended} mended")
    place = f"tenant {found.collection.tenant}, model {found.collection.model}"
    return f"{place}: {found.rows} rows, {', '.join(parts) or 'all right'}"


def _view_line(found: ViewDifferences, mended: int) -> str:
    kinds = {"missing": found.missing, "extra": found.extra, "wrong": found.wrong}
    parts = [f"{len(ids)} {kind}" for kind, ids in kinds.items() if ids]
    if found.behind:
        parts.append(f"{found.behind} documents still to be taken in")
    if found.problem is not None:
        parts.append(f"not read: {found.problem}")
    elif found.count:
        parts.append(f"{mended} mended")
    return f"view {found.view}, tenant {found.tenant}: {found.rows} rows, {', '.join(parts) or 'all right'}"


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "clean": not outcome.left,
        "embedded": outcome.embedded,
        "cached": outcome.cached,
        "put_aside": outcome.put_aside,
        "collections": [
            {
                "tenant": found.collection.tenant,
                "model": found.collection.model,
                "collection": found.name_in_store,
                "rows": found.rows,
                "missing": found.missing,
                "extra": found.extra,
                "wrong": found.wrong,
                "unjudged": found.undecided,
                "rounded": len(found.rounded),
                "unknown": len(found.without_checksum),
                "sampled": found.sampled,
                "mended": mended,
            }
            for found, mended in outcome.found
        ],
        "views": [
            {
                "view": seen.view,
                "tenant": seen.tenant,
                "collection": seen.name_in_store,
                "rows": seen.rows,
                "missing": seen.missing,
                "extra": seen.extra,
                "wrong": seen.wrong,
                "behind": seen.behind,
                "problem": seen.problem,
                "mended": mended,
            }
            for seen, mended in outcome.views
        ],
    }
