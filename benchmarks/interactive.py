"""How long a query waits for a model that is saturated with bulk work.

    python benchmarks/interactive.py [--queries 100] [--short]

One process, MiniLM on the CPU: calls of bulk work run side by side without end, and every so often a short
query is embedded with `interactive=True`, at random moments so that it meets micro-batches at any point. A
query goes before all bulk work but the micro-batch that is running, so it should wait for no more than one.
Micro-batches are timed on the model's thread; a query's time runs from the call until its vector is there,
and is given once more for an idle model. Micro-batches have a fixed size here: calibration would make the
figure one of the machine's mood.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from corpus import documents
from loguru import logger
from numpy.typing import NDArray
from report import write_report

from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.calibration import DEFAULT_BUDGET_TOKENS
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.runner import ModelRunner
from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.settings import ModelsSettings

MODEL = "minilm"
QUERY = "how do I cancel a task and wait until it has ended"
BULK_CALLS = 2
BULK_CHUNKS = 96
PAUSE_SECONDS = 0.5
WARM_UP_QUERIES = 3
SEED = 7
ALLOWED_MS = 20


@dataclass(frozen=True, slots=True)
class Span:
    """When something began and ended, in seconds of one clock."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class TimedBackend:
    """Another backend; keeps when its calls were. A query is one text, a micro-batch of bulk work many."""

    def __init__(self, inner: EmbeddingBackend) -> None:
        self._inner = inner
        self.forget()

    def forget(self) -> None:
        """Begin again with nothing counted."""
        self.bulk: list[Span] = []
        self.bulk_texts = 0
        self.queries: list[Span] = []

    @property
    def info(self) -> ModelInfo:
        return self._inner.info

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        started = perf_counter()
        vectors = self._inner.embed_tokens(batch)
        call = Span(started, perf_counter())
        if len(batch) == 1:
            self.queries.append(call)
        else:
            self.bulk.append(call)
            self.bulk_texts += len(batch)
        return vectors

    def close(self) -> None:
        self._inner.close()


def bulk_batch(catalogue: Catalogue, chunks: int) -> TokenBatch:
    """Chunks of library sources, cut as by default: what an embedding worker brings in one call."""
    info = catalogue.info(MODEL)
    chunker = Chunker(load_tokenizer(info.tokenizer_file), ChunkingConfig(), max_tokens=info.max_tokens)
    found: list[NDArray[np.uint32]] = []
    for _, text in documents(10**12):
        found += [chunk.token_ids for group in chunker.split([text]) for chunk in group]
        if len(found) >= chunks:
            break
    ids = found[:chunks]
    return TokenBatch(np.concatenate(ids), np.array([len(one) for one in ids], dtype=np.int64))


def query_batch(catalogue: Catalogue) -> TokenBatch:
    token_ids, lengths = load_tokenizer(catalogue.info(MODEL).tokenizer_file).encode_batch([QUERY])
    return TokenBatch(token_ids, lengths, role="query")


async def ask(runner: ModelRunner, query: TokenBatch, number: int, *, longest_pause: float) -> list[Span]:
    """From each query's call to its answer, with a random pause before it."""
    rng = random.Random(SEED)
    asked: list[Span] = []
    for _ in range(number):
        await asyncio.sleep(rng.uniform(0, longest_pause))
        started = perf_counter()
        outcome = await runner.embed(query, interactive=True)
        asked.append(Span(started, perf_counter()))
        assert not outcome.failed, outcome.failed
    return asked


async def saturate(runner: ModelRunner, batch: TokenBatch) -> None:
    while True:
        await runner.embed(batch)


async def measure(queries: int, microbatch_tokens: int) -> dict[str, Any]:
    catalogue = Catalogue(ModelsSettings())
    backend = TimedBackend(catalogue.open(MODEL))
    bulk, query = bulk_batch(catalogue, BULK_CHUNKS), query_batch(catalogue)
    runner = ModelRunner([lambda: backend], microbatch_tokens=microbatch_tokens)
    await runner.start()
    await ask(runner, query, WARM_UP_QUERIES, longest_pause=0)
    idle = await ask(runner, query, queries, longest_pause=0.02)
    tasks = [asyncio.create_task(saturate(runner, bulk)) for _ in range(BULK_CALLS)]
    await ask(runner, query, WARM_UP_QUERIES, longest_pause=PAUSE_SECONDS)
    backend.forget()
    busy = await ask(runner, query, queries, longest_pause=PAUSE_SECONDS)
    calls, texts, answered = list(backend.bulk), backend.bulk_texts, list(backend.queries)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await runner.close()
    return {
        "microbatch_tokens": microbatch_tokens,
        "bulk_chunks_per_second": round(texts / (calls[-1].end - calls[0].start), 1),
    } | figures(calls, idle, busy, answered)


def figures(
    calls: Sequence[Span], idle: Sequence[Span], busy: Sequence[Span], answered: Sequence[Span]
) -> dict[str, Any]:
    """`calls`: the bulk micro-batches while `busy` queries were asked, which the model ran when `answered`
    says; `idle`: the queries of the idle model."""
    microbatch, beside_bulk = in_ms(calls), in_ms(busy)
    elapsed = calls[-1].end - calls[0].start
    allowed = microbatch["p50_ms"] + ALLOWED_MS
    return {
        "queries": len(busy),
        # Well below 1, the model was not saturated, and the figures are worth nothing.
        "share_of_time_in_bulk": round(sum(call.seconds for call in calls) / elapsed, 3),
        "microbatch": {"number": len(calls)} | microbatch,
        "query_on_idle_model": in_ms(idle),
        "query_beside_bulk": beside_bulk,
        "bulk_microbatches_begun_before_a_waiting_query": overtaking(calls, busy, answered),
        "target": f"query_beside_bulk p95 <= microbatch p50 + {ALLOWED_MS} ms",
        "allowed_p95_ms": round(allowed, 1),
        "met": beside_bulk["p95_ms"] <= allowed,
    }


def overtaking(calls: Sequence[Span], asked: Sequence[Span], answered: Sequence[Span]) -> int:
    """Micro-batches that began after a query was asked and before the model took it: none, if it goes
    first."""
    return sum(
        query.start < call.start < model.start
        for query, model in zip(asked, answered, strict=True)
        for call in calls
    )


def in_ms(spans: Sequence[Span]) -> dict[str, float]:
    ordered = sorted(span.seconds for span in spans)

    def percentile(share: float) -> float:
        return round(1e3 * ordered[math.ceil(share * len(ordered)) - 1], 1)

    return {
        "p50_ms": round(1e3 * statistics.median(ordered), 1),
        "p95_ms": percentile(0.95),
        "p99_ms": percentile(0.99),
        "max_ms": percentile(1.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--microbatch-tokens", type=int, default=DEFAULT_BUDGET_TOKENS)
    parser.add_argument("--short", action="store_true", help="5 queries: proves that it runs")
    arguments = parser.parse_args()
    logger.disable("embedfleet")
    queries = 5 if arguments.short else arguments.queries
    write_report("interactive", asyncio.run(measure(queries, arguments.microbatch_tokens)))


if __name__ == "__main__":
    main()
