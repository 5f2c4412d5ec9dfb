"""How many tokens a model call should have: measured once a machine, and kept."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter, time
from uuid import uuid4

import numpy as np
from loguru import logger

from embedfleet.inference.backend import EmbeddingBackend, LaunchingBackend, ModelInfo, TokenBatch

DEFAULT_BUDGET_TOKENS = 2048
"""Where nothing was measured."""

LARGEST_BUDGET_TOKENS = 131_072

_SMALLEST_TOKENS = 512
_TYPICAL_TEXT_TOKENS = 192
_LONGEST_CALL_SECONDS = 0.6  # a query may have to wait for one call
# A BERT of 24 layers takes 11 ms to tell an H200, and three times as long beside other work.
_LEAST_LAUNCHED_SECONDS = 0.03
_STEADY = 1.3
_MOST_TRIES = 4
_TRY_AGAIN_AFTER_SECONDS = 3600.0
_NEARLY_BEST = 0.97  # beyond the knee a larger batch gains less than a longer wait costs


@dataclass(frozen=True, slots=True)
class Measured:
    """Calls of so many padded tokens: the fastest, and how many times as long the second fastest took."""

    tokens: int
    seconds: float
    spread: float = 1.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def choose_budget(measured: Sequence[Measured], *, least_seconds: float = 0.0) -> int:
    """The smallest that is nearly as fast as the fastest: the knee of the curve. Of those, one whose calls
    take `least_seconds`, if any does, else the largest."""
    best = max(one.tokens_per_second for one in measured)
    fast = [one for one in measured if one.tokens_per_second >= _NEARLY_BEST * best]
    long = [one for one in fast if one.seconds >= least_seconds]
    return min(one.tokens for one in long) if long else max(one.tokens for one in fast)


def _least_seconds(backend: EmbeddingBackend) -> float:
    """A device of its own is told each kernel by a thread that shares its interpreter with all else: calls
    must take it longer than they take to be told."""
    return _LEAST_LAUNCHED_SECONDS if isinstance(backend, LaunchingBackend) else 0.0


def is_steady(measured: Sequence[Measured]) -> bool:
    """Whether the machine had time for it: what was measured beside other work says nothing."""
    return bool(measured) and all(one.spread <= _STEADY for one in measured)


def measure(backend: EmbeddingBackend) -> list[Measured]:
    """Double the batch until a call takes long, gains nothing any more, or memory runs out.

    Blocking, on the backend's thread; seconds at most.
    """
    measured: list[Measured] = []
    for tokens in _budgets():
        try:
            one = _measure(backend, tokens)
        except MemoryError:
            break
        measured.append(one)
        enough = one.seconds >= _least_seconds(backend) and _levelled_off(measured)
        if tokens >= DEFAULT_BUDGET_TOKENS and (enough or one.seconds > _LONGEST_CALL_SECONDS):
            break
    return measured


def _measure(backend: EmbeddingBackend, tokens: int) -> Measured:
    """Until two calls took about the same: the first ones of a shape may choose kernels and take memory."""
    batch = _batch(tokens, backend.info)
    times: list[float] = []
    spread = math.inf
    while len(times) < _MOST_TRIES and spread > _STEADY:
        times.append(_timed(backend, batch))
        fastest, *others = sorted(times)
        spread = others[0] / fastest if others else math.inf
    return Measured(tokens, min(times), spread)


class Calibrations:
    """Kept in a folder, one small file for each model, device and number of threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, info: ModelInfo, device: str, threads: int) -> int | None:
        """The budget found earlier; None: none was, it cannot be read, or the machine was busy long ago."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._file(info, device, threads).read_text(encoding="utf-8"))
            budget = int(kept["microbatch_tokens"])
            fresh = time() - float(kept["measured_at"]) < _TRY_AGAIN_AFTER_SECONDS
            usable = _SMALLEST_TOKENS <= budget <= LARGEST_BUDGET_TOKENS and (kept["steady"] or fresh)
            return budget if usable else None
        return None

    def of_model(self, name: str) -> list[Path]:
        """The files kept for a model of this name, whatever it was and wherever it ran."""
        return [file for file in self._folder.glob("calibration-*.json") if _names(file, name)]

    def calibrate(self, backend: EmbeddingBackend, device: str, threads: int) -> int:
        """Measure and keep. The default if nothing could be measured (memory!), or the machine was busy: that
        is tried again another time."""
        measured = measure(backend)
        steady = is_steady(measured)
        least = _least_seconds(backend)
        budget = choose_budget(measured, least_seconds=least) if steady else DEFAULT_BUDGET_TOKENS
        logger.info("model {}: {} tokens a call on {}", backend.info.name, budget, device)
        found = {
            "model": backend.info.name,
            "device": device,
            "threads": threads,
            "microbatch_tokens": budget,
            "steady": steady,
            "measured_at": time(),
            "measured": [[one.tokens, one.seconds] for one in measured],
        }
        with suppress(OSError):
            file = self._file(backend.info, device, threads)
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh = file.with_suffix(f".{uuid4().hex}.tmp")
            fresh.write_text(json.dumps(found), encoding="utf-8")
            fresh.replace(file)
        return budget

    def _file(self, info: ModelInfo, device: str, threads: int) -> Path:
        key = hashlib.sha256(f"{info.space}\0{device}\0{threads}".encode()).hexdigest()[:32]
        return self._folder / f"calibration-{key}.json"


def _names(file: Path, model: str) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return bool(json.loads(file.read_text(encoding="utf-8")).get("model") == model)
    return False


def _budgets() -> Iterator[int]:
    for doubling in count():
        tokens = _SMALLEST_TOKENS << doubling
        if tokens > LARGEST_BUDGET_TOKENS:
            return
        yield tokens


def _levelled_off(measured: Sequence[Measured]) -> bool:
    """Two doublings in a row that gained nothing."""
    if len(measured) < 3:
        return False
    *_, before, second, third = (one.tokens_per_second for one in measured)
    return max(second, third) * _NEARLY_BEST < before


def _batch(tokens: int, info: ModelInfo) -> TokenBatch:
    texts = max(1, round(tokens / min(_TYPICAL_TEXT_TOKENS, info.max_tokens)))
    length = max(1, min(tokens // texts, info.max_tokens))
    return TokenBatch(np.zeros(texts * length, dtype=np.uint32), np.full(texts, length, dtype=np.int64))


def _timed(backend: EmbeddingBackend, batch: TokenBatch) -> float:
    started = perf_counter()
    backend.embed_tokens(batch)
    return perf_counter() - started
