"""What a GPU is at: how busy it was, and how fast it is at matrix products alone."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from random_encoders import Shape

SAMPLE_SECONDS = 0.2


@dataclass
class Busy:
    """Percent of the time in which the GPU ran any kernel, as the driver saw it."""

    samples: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        return round(statistics.fmean(self.samples), 1) if self.samples else None


@contextmanager
def watched(device: str) -> Iterator[Busy]:
    busy, over = Busy(), threading.Event()
    if not device.startswith("cuda"):
        yield busy
        return
    import pynvml  # type: ignore[import-not-found,unused-ignore]

    pynvml.nvmlInit()  # once: it holds up the driver
    gpu = pynvml.nvmlDeviceGetHandleByIndex(torch.device(device).index or 0)

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            busy.samples.append(float(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield busy
    finally:
        over.set()
        watcher.join()


def product_seconds(shape: Shape, rows: int, dtype: torch.dtype, device: str) -> float:
    """Seconds a token for the encoder's matrix products alone, in micro-batches of so many tokens."""
    total = 0.0
    for width, height, times in (
        (shape.hidden, shape.hidden, 4),
        (shape.hidden, shape.inner, 1),
        (shape.inner, shape.hidden, 1),
    ):
        left = torch.randn(rows, width, device=device, dtype=dtype)
        right = torch.randn(width, height, device=device, dtype=dtype)
        total += times * _median_seconds(partial(torch.matmul, left, right), device)
    return total * shape.layers / rows


def _median_seconds(work: Callable[[], object], device: str) -> float:
    def once() -> float:
        started = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return statistics.median([once() for _ in range(20)][5:])
