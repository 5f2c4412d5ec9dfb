"""Threads and devices are shared out, none twice and none for nothing."""

from __future__ import annotations

import pytest

from embedfleet.launchers.resources import max_workers, next_device, threads_per_worker


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(16, 1, 16), (16, 4, 4), (16, 5, 3), (2, 5, 1), (8, 0, 8)]
)
def test_the_cores_are_shared_out_among_the_workers(cores: int, workers: int, threads: int) -> None:
    assert threads_per_worker(cores, workers) == threads


@pytest.mark.parametrize(
    ("in_use", "per_device", "dealt"),
    [
        ([], 1, "cuda:0"),
        (["cuda:0"], 1, "cuda:1"),
        (["cuda:1"], 1, "cuda:0"),
        (["cuda:0", "cuda:1"], 1, None),
        (["cuda:0", "cuda:1"], 2, "cuda:0"),
        (["cuda:0", "cuda:0", "cuda:1"], 2, "cuda:1"),
        ([None, None], 1, "cuda:0"),
    ],
)
def test_a_new_worker_gets_the_least_used_device(
    in_use: list[str | None], per_device: int, dealt: str | None
) -> None:
    assert next_device(["cuda:0", "cuda:1"], in_use, per_device) == dealt


def test_a_pool_is_no_larger_than_its_devices_take() -> None:
    assert max_workers(["cuda:0", "cuda:1"], 2, 16) == 4
    assert max_workers(["cuda:0", "cuda:1"], 2, 3) == 3
    assert max_workers([], 1, 16) == 16
