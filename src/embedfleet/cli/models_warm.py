"""`embedfleet models warm`: does everything in advance that slows down the first use of a model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.models_loading import as_batch, loaded, selected_models, with_worker_threads
from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_here
from embedfleet.cli.output import NOTHING_DONE, PARTLY_DONE, explain, print_json, say, warn

if TYPE_CHECKING:
    from embedfleet.inference.catalogue import Catalogue
    from embedfleet.settings import Settings

_PROBE = "The quick brown fox jumps over the lazy dog."


def warm(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Models.", show_default="the default, the embedding pool's, the settings file's"),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Download what is missing, load each model, find its batch size, and embed a sentence.

    Exit code 3 if some models failed, 1 if all did.
    """
    settings = with_worker_threads(settings_here(data_dir, config))
    rows = []
    for name in selected_models(names or (), settings):
        rows.append(_warm(name, settings, progress=not as_json))
        if not as_json:
            _show(rows[-1])
    if as_json:
        print_json({"models": rows})
    good = [row for row in rows if row["error"] is None]
    if len(good) < len(rows):
        raise SystemExit(PARTLY_DONE if good else NOTHING_DONE)


def _warm(name: str, settings: Settings, *, progress: bool) -> dict[str, Any]:
    from embedfleet import log
    from embedfleet.errors import EmbedfleetError
    from embedfleet.inference.catalogue import Catalogue
    from embedfleet.inference.hub import download, is_missing

    log.configure(level="ERROR", as_json=False)
    catalogue = Catalogue(settings.models)
    entry = catalogue.settings_of(name)
    row: dict[str, Any] = {"name": name, "downloaded": False, "error": None}
    try:
        if is_missing(entry):
            download(entry, progress=progress)
            row["downloaded"] = True
        return row | asyncio.run(_try_out(name, catalogue, settings))
    except EmbedfleetError as exc:
        return row | {"error": explain(exc)}


async def _try_out(name: str, catalogue: Catalogue, settings: Settings) -> dict[str, Any]:
    from time import perf_counter

    from embedfleet.errors import ModelError

    started = perf_counter()
    async with loaded(name, catalogue, settings) as runner:
        ready = perf_counter()
        outcome = await runner.embed(as_batch([_PROBE], runner, "document"))
        if outcome.failed:
            raise ModelError(f"model {name}: cannot embed a plain sentence ({outcome.failed[0]})")
        return {
            "load_seconds": round(ready - started, 3),
            "devices": list(catalogue.devices(name)),
            "threads": catalogue.threads(name),
            "microbatch_tokens": runner.microbatch_tokens,
            "dim": runner.info.dim,
            "space": runner.info.space,
        }


def _show(row: dict[str, Any]) -> None:
    if row["error"] is not None:
        warn(f"{row['name']}: {row['error']}")
        return
    fetched = "downloaded, " if row["downloaded"] else ""
    say(
        f"{row['name']}: {fetched}loaded in {row['load_seconds']:.1f} s on {', '.join(row['devices'])}, "
        f"{row['microbatch_tokens']:,} tokens a call, {row['dim']} dimensions"
    )
