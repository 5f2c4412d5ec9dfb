"""Which models are evicted so that another fits."""

from __future__ import annotations

import pytest

from embedfleet.errors import ModelError
from embedfleet.inference.budget import MemoryClaim, choose_evictions, memory_by_device


def loaded(name: str, mb: int, *, used_at: float, idle: bool = True, device: str = "cpu") -> MemoryClaim:
    return MemoryClaim(name, {device: mb}, idle=idle, used_at=used_at)


@pytest.mark.parametrize(
    ("there", "wanted", "evicted"),
    [
        ([], 100, []),
        ([loaded("a", 60, used_at=1)], 40, []),
        ([loaded("a", 60, used_at=1)], 41, ["a"]),
        ([loaded("a", 50, used_at=2), loaded("b", 50, used_at=1)], 30, ["b"]),
        ([loaded("a", 50, used_at=2), loaded("b", 50, used_at=1)], 60, ["b", "a"]),
        ([loaded("a", 50, used_at=1, idle=False), loaded("b", 50, used_at=2)], 30, ["b"]),
        ([loaded("a", 50, used_at=1, idle=False), loaded("b", 50, used_at=2)], 60, None),
        ([loaded("a", 90, used_at=1, device="cuda:0"), loaded("b", 90, used_at=2)], 50, ["b"]),
        ([loaded("a", 900, used_at=1, device="cuda:1")], 100, []),
    ],
    ids=[
        "nothing there",
        "just fits",
        "does not fit",
        "longest unused goes",
        "one after the other",
        "busy ones stay",
        "busy ones are waited for, and nobody goes in vain",
        "who is elsewhere stays",
        "a device without a limit",
    ],
)
def test_the_longest_unused_makes_room(
    there: list[MemoryClaim], wanted: int, evicted: list[str] | None
) -> None:
    assert choose_evictions("new", {"cpu": wanted}, there, {"cpu": 100, "cuda:0": 100}) == evicted


def test_a_model_larger_than_the_device_is_refused_with_the_setting_to_change() -> None:
    with pytest.raises(
        ModelError, match=r"model big: takes about 101 MiB of cpu, `models.memory_mb` allows 100"
    ):
        choose_evictions("big", {"cpu": 101}, [], {"cpu": 100})


def test_room_is_made_on_each_device_of_a_model() -> None:
    there = [loaded("a", 60, used_at=1, device="cuda:0"), loaded("b", 60, used_at=2, device="cuda:1")]
    limits = {"cuda:0": 100, "cuda:1": 100}
    assert choose_evictions("new", {"cuda:0": 50, "cuda:1": 50}, there, limits) == ["a", "b"]


def test_replicas_on_one_device_add_up() -> None:
    assert memory_by_device(["cuda:0", "cuda:1", "cuda:0"], 10) == {"cuda:0": 20, "cuda:1": 10}
