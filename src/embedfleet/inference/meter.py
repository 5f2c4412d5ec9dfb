"""Measures how a model's thread spends its time, and how much of its work is padding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import Counter

from embedfleet.inference.backend import TokenBatch
from embedfleet.metrics import Metrics


class ModelMeter:
    """The metrics of one model. All its replicas add to the same counters."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._running = metrics.model_seconds_total.labels(model)
        self._waiting = metrics.model_wait_seconds_total.labels(model)
        self._real = metrics.real_tokens_total.labels(model)
        self._padding = metrics.padding_tokens_total.labels(model)
        self._call_chunks = metrics.model_call_chunks.labels(model)
        self._call_tokens = metrics.model_call_tokens.labels(model)

    @contextmanager
    def running(self, batch: TokenBatch, *, pads: bool) -> Iterator[None]:
        """The model runs on this micro-batch. `pads`: it pads each text to the longest."""
        tokens = int(batch.lengths.sum())
        self._real.inc(tokens)
        self._call_chunks.observe(len(batch))
        self._call_tokens.observe(tokens)
        if pads:
            self._padding.inc(len(batch) * int(batch.lengths.max(initial=0)) - tokens)
        with _timed(self._running):
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The model is loaded and has nothing to do."""
        with _timed(self._waiting):
            yield


@contextmanager
def _timed(counter: Counter) -> Iterator[None]:
    started = perf_counter()
    try:
        yield
    finally:
        counter.inc(perf_counter() - started)
