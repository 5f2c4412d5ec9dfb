"""Which loaded models must go so that another fits: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from embedfleet.errors import ModelError


@dataclass(frozen=True, slots=True)
class Tenancy:
    """A loaded model: MiB by device, whether somebody waits for it, and when it was last used."""

    name: str
    memory_mb: Mapping[str, int]
    idle: bool
    used_at: float


def memory_by_device(devices: Iterable[str], each_mb: int) -> dict[str, int]:
    """Of a model with one replica on each of `devices`."""
    needed: dict[str, int] = {}
    for device in devices:
        needed[device] = needed.get(device, 0) + each_mb
    return needed


def make_room(
    name: str, needed: Mapping[str, int], loaded: Sequence[Tenancy], limits: Mapping[str, int]
) -> list[str] | None:
    """The models to evict, those longest unused first, so that `needed` fits within `limits` (MiB by device).

    None: it does not fit before one of the busy ones is idle. A device without a limit has room for all.
    Nobody is evicted who does not make room, nor if it would not be enough. Raises ModelError for a model
    that is larger than the device's share.
    """
    for device, wanted in needed.items():
        if wanted > limits.get(device, wanted):
            raise ModelError(
                f"model {name}: takes about {wanted} MiB of {device}, `models.memory_mb` allows "
                f"{limits[device]}: raise it, or set the model's `memory_mb` if it takes less"
            )
    leaving: list[str] = []
    over = {
        device: wanted + sum(one.memory_mb.get(device, 0) for one in loaded) - limits[device]
        for device, wanted in needed.items()
        if device in limits
    }
    for candidate in sorted(loaded, key=lambda one: one.used_at):
        helps = any(excess > 0 and candidate.memory_mb.get(device, 0) for device, excess in over.items())
        if candidate.idle and helps:
            leaving.append(candidate.name)
            over = {device: excess - candidate.memory_mb.get(device, 0) for device, excess in over.items()}
    return None if any(excess > 0 for excess in over.values()) else leaving
