"""Shares devices and CPU threads among workers. It is arithmetic only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def threads_per_worker(cores: int, workers: int) -> int:
    """Return the CPU threads of each of `workers` embedding workers that share the cores; at least 1.

    With more threads than cores, threads would only take turns.
    """
    return max(1, cores // max(1, workers))


def next_device(devices: Sequence[str], in_use: Iterable[str | None], per_device: int) -> str | None:
    """Return the first device with the fewest workers; None if all are full or there are none.

    `in_use` holds the device of each running worker. A device takes at most `per_device` workers.
    """
    used = Counter(device for device in in_use if device is not None)
    free = [device for device in devices if used[device] < per_device]
    return min(free, key=lambda device: used[device], default=None)


def max_workers(devices: Sequence[str], per_device: int, limit: int) -> int:
    """Return how many of `limit` workers a pool can have. Devices, if there are any, bound the number."""
    return min(limit, len(devices) * per_device) if devices else limit
