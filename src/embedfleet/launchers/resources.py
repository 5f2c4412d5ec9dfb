"""How devices and CPU threads are shared out among workers: arithmetic only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def threads_per_worker(cores: int, workers: int) -> int:
    """CPU threads of each embedding worker when `workers` of them share the cores. At least one.

    More threads than cores would only take turns.
    """
    return max(1, cores // max(1, workers))


def next_device(devices: Sequence[str], in_use: Iterable[str | None], per_device: int) -> str | None:
    """The device with the fewest workers, the first of several; None if all are full or there are none.

    `in_use`: the device of each running worker. A device takes at most `per_device` workers.
    """
    used = Counter(device for device in in_use if device is not None)
    free = [device for device in devices if used[device] < per_device]
    return min(free, key=lambda device: used[device], default=None)


def max_workers(devices: Sequence[str], per_device: int, limit: int) -> int:
    """How many of `limit` workers a pool can have: with devices, no more than the devices take."""
    return min(limit, len(devices) * per_device) if devices else limit
