"""How many tokens a model call should have: measured once on each machine, and kept in a file."""

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

import numpy as np
from loguru import logger

from embedfleet.inference.backend import EmbeddingBackend, LaunchingBackend, ModelInfo, TokenBatch
from embedfleet.whole_file import written_whole

DEFAULT_BUDGET_TOKENS = 2048
"""Used when there is no measurement."""

LARGEST_BUDGET_TOKENS = 131_072

_SMALLEST_BUDGET_TOKENS = 512
_TYPICAL_TEXT_TOKENS = 192
_LONGEST_CALL_SECONDS = 0.6  # a query may have to wait for one call
# Launching the kernels of a BERT of 24 layers on an H200 takes 11 ms, and three times as long beside other
# work.
_LEAST_LAUNCHED_SECONDS = 0.03
# A measurement is steady if the second fastest call took at most this many times as long as the fastest.
_STEADY_SPREAD = 1.3
_MAX_CALLS_PER_SIZE = 4
_MEASURE_AGAIN_AFTER_SECONDS = 3600.0
# A budget this close to the best is good enough: a larger batch gains less than its longer wait costs.
_NEARLY_BEST = 0.97


@dataclass(frozen=True, slots=True)
class Measurement:
    """Calls of `tokens` padded tokens: the `seconds` of the fastest, and how many times as long the second
    fastest took."""

    tokens: int
    seconds: float
    spread: float = 1.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def choose_budget(measurements: Sequence[Measurement], *, least_seconds: float = 0.0) -> int:
    """The tokens of the smallest call that is nearly as fast as the fastest: the knee of the curve.

    Only calls that take at least `least_seconds` are considered; if none of the fast calls does, the
    largest of these is chosen.
    """
    best = max(each.tokens_per_second for each in measurements)
    fast = [each for each in measurements if each.tokens_per_second >= _NEARLY_BEST * best]
    long_enough = [each for each in fast if each.seconds >= least_seconds]
    if long_enough:
        return min(each.tokens for each in long_enough)
    return max(each.tokens for each in fast)


def _least_seconds(backend: EmbeddingBackend) -> float:
    """How long a call should take at least. A launching backend's thread, which shares the interpreter with
    all other work, tells its device each kernel: the device stands still if that takes longer than the
    call."""
    return _LEAST_LAUNCHED_SECONDS if isinstance(backend, LaunchingBackend) else 0.0


def is_steady(measurements: Sequence[Measurement]) -> bool:
    """Whether the measurements can be used. If the machine had other work to do, calls of one size take
    different times."""
    return bool(measurements) and all(each.spread <= _STEADY_SPREAD for each in measurements)


def measure(backend: EmbeddingBackend) -> list[Measurement]:
    """Measure calls of doubling size, until a call takes long, larger calls gain nothing, or memory runs out.

    Blocking, on the backend's thread; seconds at most.
    """
    measurements: list[Measurement] = []
    for tokens in _budgets():
        try:
            measurement = _measure(backend, tokens)
        except MemoryError:
            break
        measurements.append(measurement)
        long_enough = measurement.seconds >= _least_seconds(backend)
        gains_nothing = long_enough and _levelled_off(measurements)
        takes_long = measurement.seconds > _LONGEST_CALL_SECONDS
        if tokens >= DEFAULT_BUDGET_TOKENS and (gains_nothing or takes_long):
            break
    return measurements


def _measure(backend: EmbeddingBackend, tokens: int) -> Measurement:
    """Call the backend until two calls took about the same time: the first calls of a shape may also choose
    kernels and allocate memory."""
    batch = _batch(tokens, backend.info)
    times: list[float] = []
    spread = math.inf
    while len(times) < _MAX_CALLS_PER_SIZE and spread > _STEADY_SPREAD:
        times.append(_timed(backend, batch))
        fastest, *others = sorted(times)
        spread = others[0] / fastest if others else math.inf
    return Measurement(tokens, min(times), spread)


class Calibrations:
    """Budgets that were found, in a folder: one small file for each model, device and number of threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, info: ModelInfo, device: str, threads: int) -> int | None:
        """The kept budget. None if there is none or it cannot be read, or if the machine was busy when it was
        measured and that is more than an hour ago."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._file(info, device, threads).read_text(encoding="utf-8"))
            budget = int(kept["microbatch_tokens"])
            in_range = _SMALLEST_BUDGET_TOKENS <= budget <= LARGEST_BUDGET_TOKENS
            is_recent = time() - float(kept["measured_at"]) < _MEASURE_AGAIN_AFTER_SECONDS
            return budget if in_range and (kept["steady"] or is_recent) else None
        return None

    def of_model(self, name: str) -> list[Path]:
        """The files kept for a model of this name, on any device and of any version of the model."""
        return [file for file in self._folder.glob("calibration-*.json") if _is_of_model(file, name)]

    def rate_of_model(self, name: str) -> float | None:
        """The tokens a second of the fastest call that was measured of this model; None: none was."""
        rates: list[float] = []
        for file in self.of_model(name):
            with suppress(OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
                measured = json.loads(file.read_text(encoding="utf-8"))["measured"]
                rates += [float(tokens) / float(seconds) for tokens, seconds in measured]
        return max(rates, default=None)

    def calibrate(self, backend: EmbeddingBackend, device: str, threads: int) -> int:
        """Measure, keep the result and return it. The default budget if memory did not allow a measurement or
        the machine was busy: `find` then lets the next load measure again, after an hour."""
        measurements = measure(backend)
        steady = is_steady(measurements)
        least = _least_seconds(backend)
        budget = choose_budget(measurements, least_seconds=least) if steady else DEFAULT_BUDGET_TOKENS
        logger.info("model {}: {} tokens a call on {}", backend.info.name, budget, device)
        found = {
            "model": backend.info.name,
            "device": device,
            "threads": threads,
            "microbatch_tokens": budget,
            "steady": steady,
            "measured_at": time(),
            "measured": [[each.tokens, each.seconds] for each in measurements],
        }
        with suppress(OSError):  # the budget can be used without being kept
            file = self._file(backend.info, device, threads)
            file.parent.mkdir(parents=True, exist_ok=True)
            # Another process that measures or reads at the same time sees a whole file.
            with written_whole(file) as draft:
                draft.write_text(json.dumps(found), encoding="utf-8")
        return budget

    def _file(self, info: ModelInfo, device: str, threads: int) -> Path:
        key = hashlib.sha256(f"{info.space}\0{device}\0{threads}".encode()).hexdigest()[:32]
        return self._folder / f"calibration-{key}.json"


def _is_of_model(file: Path, model: str) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return bool(json.loads(file.read_text(encoding="utf-8")).get("model") == model)
    return False


def _budgets() -> Iterator[int]:
    for doubling in count():
        tokens = _SMALLEST_BUDGET_TOKENS << doubling
        if tokens > LARGEST_BUDGET_TOKENS:
            return
        yield tokens


def _levelled_off(measurements: Sequence[Measurement]) -> bool:
    """Whether the last two doublings gained nothing."""
    if len(measurements) < 3:
        return False
    *_, before, second, third = (each.tokens_per_second for each in measurements)
    return max(second, third) * _NEARLY_BEST < before


def _batch(tokens: int, info: ModelInfo) -> TokenBatch:
    """Texts of equal, typical length that have about `tokens` tokens together."""
    texts = max(1, round(tokens / min(_TYPICAL_TEXT_TOKENS, info.max_tokens)))
    length = max(1, min(tokens // texts, info.max_tokens))
    return TokenBatch(np.zeros(texts * length, dtype=np.uint32), np.full(texts, length, dtype=np.int64))


def _timed(backend: EmbeddingBackend, batch: TokenBatch) -> float:
    started = perf_counter()
    backend.embed_tokens(batch)
    return perf_counter() - started
