"""The batch size that is found is the knee of the curve, and it is found once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.inference import calibration
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.calibration import (
    DEFAULT_BUDGET_TOKENS,
    LARGEST_BUDGET_TOKENS,
    Calibrations,
    Measurement,
    choose_budget,
    is_steady,
    measure,
)


@pytest.mark.parametrize(
    ("curve", "budget"),
    [
        ([(512, 1.0)], 512),
        ([(512, 1.0), (1024, 1.2), (2048, 2.4)], 1024),
        ([(512, 1.0), (1024, 1.99), (2048, 3.95)], 512),
        ([(512, 1.0), (1024, 1.5), (2048, 2.6), (4096, 4.9)], 4096),
        ([(512, 1.0), (1024, 1.0), (2048, 1.0), (4096, 4.0)], 2048),
    ],
    ids=["one point", "levels off", "gains too little", "still gaining", "falls"],
)
def test_the_smallest_batch_that_is_nearly_the_fastest(curve: list[tuple[int, float]], budget: int) -> None:
    assert choose_budget([Measurement(tokens, seconds) for tokens, seconds in curve]) == budget


@pytest.mark.parametrize(("least_seconds", "budget"), [(0.0, 1024), (1.5, 2048), (3.0, 4096), (10.0, 4096)])
def test_calls_of_a_device_of_its_own_take_longer_than_to_tell_it(least_seconds: float, budget: int) -> None:
    curve = [Measurement(512, 0.9), Measurement(1024, 1.0), Measurement(2048, 2.0), Measurement(4096, 4.0)]
    assert choose_budget(curve, least_seconds=least_seconds) == budget


@pytest.mark.parametrize(
    ("spreads", "steady"), [([], False), ([1.0], True), ([1.0, 1.29], True), ([1.0, 1.31, 1.0], False)]
)
def test_what_is_measured_on_a_busy_machine_says_nothing(spreads: list[float], steady: bool) -> None:
    assert is_steady([Measurement(512, 1.0, spread) for spread in spreads]) is steady


def test_a_device_that_is_slow_at_what_is_new_to_it_is_measured_at_what_follows(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0}
    calls: Counter[int] = Counter()
    embed = backend.embed_tokens

    def embed_slowly_at_first(batch: TokenBatch) -> NDArray[np.float32]:
        tokens = len(batch.token_ids)
        calls[tokens] += 1
        clock["now"] += 5.0 if calls[tokens] == 1 else 0.001
        vectors: NDArray[np.float32] = embed(batch)
        return vectors

    backend.embed_tokens = embed_slowly_at_first
    monkeypatch.setattr(calibration, "perf_counter", lambda: clock["now"])
    measured = measure(backend)
    assert is_steady(measured)
    assert choose_budget(measured) == LARGEST_BUDGET_TOKENS


def test_memory_that_runs_out_ends_the_measurement(backend: Any) -> None:
    backend.memory_tokens = 2048
    assert max(one.tokens for one in measure(backend)) <= 2048


def test_without_any_measurement_there_is_a_default(backend: Any, tmp_path: Path) -> None:
    backend.memory_tokens = 1
    assert Calibrations(tmp_path).calibrate(backend, "cpu", 2) == DEFAULT_BUDGET_TOKENS


def test_what_was_found_is_kept_for_that_model_device_and_number_of_threads(
    backend: Any, tmp_path: Path
) -> None:
    found = Calibrations(tmp_path / "new").calibrate(backend, "cpu", 2)
    kept = Calibrations(tmp_path / "new")
    assert kept.find(backend.info, "cpu", 2) == found
    assert kept.find(backend.info, "cpu", 1) is None
    assert kept.find(backend.info, "cuda:0", 2) is None
    assert kept.find(replace(backend.info, space="1" * 16), "cpu", 2) is None


@pytest.mark.parametrize(
    "content", ["", "{}", '{"microbatch_tokens": 1}', '{"microbatch_tokens": "many"}', "[]"]
)
def test_a_file_that_says_nothing_sensible_is_measured_anew(
    backend: Any, tmp_path: Path, content: str
) -> None:
    kept = Calibrations(tmp_path)
    kept.calibrate(backend, "cpu", 2)
    (file,) = tmp_path.iterdir()
    assert kept.find(backend.info, "cpu", 2) is not None
    file.write_text(content, encoding="utf-8")
    assert kept.find(backend.info, "cpu", 2) is None


@pytest.mark.parametrize(
    ("steady", "hours", "found"), [(True, 100, 4096), (False, 0.9, 4096), (False, 1.1, None)]
)
def test_a_machine_that_was_busy_is_measured_again_after_an_hour(
    backend: Any, tmp_path: Path, steady: bool, hours: float, found: int | None
) -> None:
    kept = Calibrations(tmp_path)
    kept.calibrate(backend, "cpu", 2)
    (file,) = tmp_path.iterdir()
    entry = {"microbatch_tokens": 4096, "steady": steady, "measured_at": time() - 3600 * hours}
    file.write_text(json.dumps(entry), encoding="utf-8")
    assert kept.find(backend.info, "cpu", 2) == found


def test_a_folder_that_cannot_be_written_costs_only_the_time(backend: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert Calibrations(tmp_path / "file").calibrate(backend, "cpu", 2) >= 512
