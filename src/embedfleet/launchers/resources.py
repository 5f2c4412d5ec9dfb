"""Who gets which device and how many threads: arithmetic only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def threads_per_worker(cores: int, workers: int) -> int:
    """CPU threads of one embedding worker when so many share the cores; more would fight for them."""
    return max(1, cores // max(1, workers))


def next_device(devices: Sequence[str], in_use: Iterable[str | None], per_device: int) -> str | None:
    """The least used device that may take one more worker, in the order given; None if all are full.

    Raises nothing; with no devices there is nothing to deal out.
    """
    used = Counter(device for device in in_use if device is not None)
    free = [device for device in devices if used[device] < per_device]
    return min(free, key=lambda device: used[device], default=None)


def most_workers(devices: Sequence[str], per_device: int, limit: int) -> int:
    """How many workers a pool can have: with devices, no more than they take."""
    return min(limit, len(devices) * per_device) if devices else limit
