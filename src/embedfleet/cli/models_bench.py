"""`embedfleet models bench`: measures how fast models are on this machine, in bulk and for single queries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.made_up_prose import made_up_prose
from embedfleet.cli.models_loading import as_batch, loaded, selected_models, with_worker_threads
from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_here
from embedfleet.cli.output import NOTHING_DONE, PARTLY_DONE, explain, print_json, say_table, warn
from embedfleet.paging import pages

if TYPE_CHECKING:
    from embedfleet.inference.backend import ModelInfo, TokenBatch
    from embedfleet.inference.runner import ModelRunner
    from embedfleet.metrics import Metrics
    from embedfleet.settings import Settings

_QUERIES_SHARE = 0.2
_MIN_QUERIES = 5
_MAX_QUERIES = 500
_CALLS_AT_ONCE = 2  # as many as an embedding worker makes


@dataclass(frozen=True, slots=True)
class _Texts:
    """The texts to embed: batches as a chunking worker makes them, and queries."""

    batches: Sequence[TokenBatch]
    queries: Sequence[TokenBatch]

    @property
    def tokens_per_chunk(self) -> float:
        return sum(int(batch.lengths.sum()) for batch in self.batches) / sum(map(len, self.batches))


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Models.", show_default="as of `warm`, but for servers"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Plain text to embed.", show_default="made-up prose")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="About so long for each model.")] = 10.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Measure models on this machine: chunks and tokens a second, the time of a query, padding.

    Text is cut as the settings say. Nothing else should run at the same time. Exit code 3 if some models
    failed, 1 if all did.
    """
    from embedfleet import log
    from embedfleet.errors import EmbedfleetError

    settings = with_worker_threads(settings_here(data_dir, config))
    text = made_up_prose(Random(20), 200_000) if file is None else _read(file)
    log.configure(level="ERROR", as_json=False)
    rows: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    for name in _measurable(names or (), settings):
        try:
            rows.append(asyncio.run(_measure(name, settings, text, seconds)))
        except EmbedfleetError as exc:
            errors.append({"name": name, "error": explain(exc)})
            warn(f"{name}: {explain(exc)}")
    if as_json:
        print_json({"models": rows, "errors": errors})
    elif rows:
        say_table(_HEADINGS, map(_cells, rows), right=range(1, 7))
    if errors:
        raise SystemExit(PARTLY_DONE if rows else NOTHING_DONE)


def _measurable(names: Sequence[str], settings: Settings) -> list[str]:
    """The models to measure. Servers are measured only if they are named, as their use may cost money."""
    from embedfleet.inference.catalogue import Catalogue

    catalogue = Catalogue(settings.models)
    selected = selected_models(names, settings)
    return [name for name in selected if names or catalogue.settings_of(name).backend != "remote"]


def _read(file: Path) -> str:
    from embedfleet.errors import InvalidRequest

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"{file}: cannot be read as text ({exc})") from exc
    if not text.strip():
        raise InvalidRequest(f"{file}: holds no text")
    return text


async def _measure(name: str, settings: Settings, text: str, seconds: float) -> dict[str, Any]:
    from embedfleet.inference.catalogue import Catalogue
    from embedfleet.metrics import Metrics

    catalogue, metrics = Catalogue(settings.models), Metrics()
    started = perf_counter()
    async with loaded(name, catalogue, settings, metrics) as runner:
        load_seconds = perf_counter() - started
        texts = _texts(text, runner, settings)
        bulk = await _measure_bulk(runner, texts, metrics, seconds * (1 - _QUERIES_SHARE))
        waits = await _measure_queries(runner, texts.queries, seconds * _QUERIES_SHARE)
        return {
            "name": name,
            "devices": list(catalogue.devices(name)),
            "threads": catalogue.threads(name),
            "microbatch_tokens": runner.microbatch_tokens,
            "load_seconds": round(load_seconds, 3),
            "tokens_per_chunk": round(texts.tokens_per_chunk, 1),
            **bulk,
            "query_p50_ms": _percentile(waits, 0.5),
            "query_p95_ms": _percentile(waits, 0.95),
            "queries": len(waits),
        }


def _texts(text: str, runner: ModelRunner, settings: Settings) -> _Texts:
    chunks = list(_chunks(text, runner.info, settings))
    batches = pages(chunks, settings.chunking.batch_chunks)
    openings = [" ".join(chunk.split()[:12]) for chunk in chunks[:100]]
    return _Texts(
        [as_batch(batch, runner, "document") for batch in batches],
        [as_batch([opening], runner, "query") for opening in openings],
    )


def _chunks(text: str, info: ModelInfo, settings: Settings) -> Iterator[str]:
    from embedfleet.chunking.chunker import Chunker
    from embedfleet.chunking.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(info.tokenizer_file)
    chunker = Chunker(tokenizer, settings.chunking.config, max_tokens=info.max_tokens)
    for chunks in chunker.split([text]):
        yield from (chunk.text for chunk in chunks)


async def _measure_bulk(
    runner: ModelRunner, texts: _Texts, metrics: Metrics, seconds: float
) -> dict[str, Any]:
    """Embed batches for `seconds`. Counts the tokens of completed micro-batches, so calls may be cut off."""
    from embedfleet.errors import LeaseLost

    source = cycle(texts.batches)
    started = perf_counter()

    def over() -> bool:
        return perf_counter() - started > seconds

    async def calls() -> None:
        while not over():
            try:
                await runner.embed(next(source), should_stop=over)
            except LeaseLost:
                return

    before = _counted(metrics, runner.info)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_CALLS_AT_ONCE):
            tasks.create_task(calls())
    await runner.embed(texts.queries[0])  # waits for the micro-batch under way
    took = perf_counter() - started
    after = _counted(metrics, runner.info)
    real, padding = (now - then for now, then in zip(after, before, strict=True))
    return {
        "chunks_per_second": round(real / texts.tokens_per_chunk / took, 2),
        "tokens_per_second": round(real / took, 1),
        "padding_share": round(padding / (real + padding), 4),
        "seconds": round(took, 3),
    }


def _counted(metrics: Metrics, info: ModelInfo) -> tuple[float, float]:
    """How many real and padding tokens the model has been given so far."""
    real, padding = (
        metrics.registry.get_sample_value(f"embedding_{kind}_tokens_total", {"model": info.name}) or 0.0
        for kind in ("real", "padding")
    )
    return real, padding


async def _measure_queries(runner: ModelRunner, queries: Sequence[TokenBatch], seconds: float) -> list[float]:
    """Embed queries one after the other; returns the time of each in milliseconds."""
    waits: list[float] = []
    started = perf_counter()
    for query in cycle(queries):
        enough = perf_counter() - started > seconds and len(waits) >= _MIN_QUERIES
        if enough or len(waits) == _MAX_QUERIES:
            return waits
        asked = perf_counter()
        await runner.embed(query, interactive=True)
        waits.append(1000 * (perf_counter() - asked))
    return waits


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


_HEADINGS = ["model", "chunks/s", "tokens/s", "padding", "query p50", "query p95", "threads", "devices"]


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        f"{row['chunks_per_second']:,.1f}",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['padding_share']:.1%}",
        f"{row['query_p50_ms']:.1f} ms",
        f"{row['query_p95_ms']:.1f} ms",
        str(row["threads"]),
        ", ".join(row["devices"]),
    ]
