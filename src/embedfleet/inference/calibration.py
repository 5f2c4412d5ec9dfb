"""How many tokens a model call should have: measured once a machine, and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
from loguru import logger

from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, TokenBatch

DEFAULT_BUDGET_TOKENS = 2048
"""Where nothing was measured."""

LARGEST_BUDGET_TOKENS = 131_072

_SMALLEST_TOKENS = 512
_TYPICAL_TEXT_TOKENS = 192
_LONGEST_CALL_SECONDS = 0.6  # a query may have to wait for one call
_NEARLY_BEST = 0.97  # beyond the knee a larger batch gains less than a longer wait costs


@dataclass(frozen=True, slots=True)
class Measured:
    """One call of so many padded tokens."""

    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def choose_budget(measured: Sequence[Measured]) -> int:
    """The smallest that is nearly as fast as the fastest: the knee of the curve."""
    best = max(one.tokens_per_second for one in measured)
    return min(one.tokens for one in measured if one.tokens_per_second >= _NEARLY_BEST * best)


def measure(backend: EmbeddingBackend) -> list[Measured]:
    """Double the batch until a call takes long, gains nothing any more, or memory runs out.

    Blocking, on the backend's thread; seconds at most.
    """
    measured: list[Measured] = []
    for tokens in _budgets():
        try:
            batch = _batch(tokens, backend.info)
            seconds = min(_timed(backend, batch) for _ in range(2))
        except MemoryError:
            break
        measured.append(Measured(tokens, seconds))
        if seconds > _LONGEST_CALL_SECONDS or _levelled_off(measured):
            break
    return measured


class Calibrations:
    """Kept in a folder, one small file for each model, device and number of threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, info: ModelInfo, device: str, threads: int) -> int | None:
        """The budget found earlier; None: none was, or it cannot be read."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(self._file(info, device, threads).read_text(encoding="utf-8"))
            budget = int(kept["microbatch_tokens"])
            return budget if _SMALLEST_TOKENS <= budget <= LARGEST_BUDGET_TOKENS else None
        return None

    def of_model(self, name: str) -> list[Path]:
        """The files kept for a model of this name, whatever it was and wherever it ran."""
        return [file for file in self._folder.glob("calibration-*.json") if _names(file, name)]

    def calibrate(self, backend: EmbeddingBackend, device: str, threads: int) -> int:
        """Measure and keep. Without any measurement (memory!) the default."""
        measured = measure(backend)
        budget = choose_budget(measured) if measured else DEFAULT_BUDGET_TOKENS
        logger.info("model {}: {} tokens a call on {}", backend.info.name, budget, device)
        found = {
            "model": backend.info.name,
            "device": device,
            "threads": threads,
            "microbatch_tokens": budget,
            "measured": [[one.tokens, one.seconds] for one in measured],
        }
        with suppress(OSError):
            file = self._file(backend.info, device, threads)
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh = file.with_suffix(".tmp")
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
