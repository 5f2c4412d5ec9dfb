"""Which loaded models are evicted so that another one fits: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from embedfleet.errors import ModelError


@dataclass(frozen=True, slots=True)
class MemoryClaim:
    """What a model takes of the devices' memory: MiB by device. `idle`: it can be evicted now. `used_at`:
    when it was last used, in seconds of any clock."""

    name: str
    memory_mb: Mapping[str, int]
    idle: bool
    used_at: float


def memory_by_device(devices: Iterable[str], mb_per_replica: int) -> dict[str, int]:
    """MiB by device of a model that has one replica on each of `devices`; a device may be named twice."""
    needed: dict[str, int] = {}
    for device in devices:
        needed[device] = needed.get(device, 0) + mb_per_replica
    return needed


def choose_evictions(
    name: str, needed: Mapping[str, int], claims: Sequence[MemoryClaim], limits: Mapping[str, int]
) -> list[str] | None:
    """The models to evict so that model `name`, which takes `needed`, fits within `limits`.

    `needed` and `limits` are MiB by device; a device without a limit has room for every model. The model
    that has been unused for longest is evicted first. A model is evicted only if it takes memory of a device
    that is short of it, and only if all evictions together make enough room.

    Returns None if the model does not fit before a busy model becomes idle. Raises ModelError for a model
    that is larger than a device's limit.
    """
    _require_within_limits(name, needed, limits)
    excess = {
        device: needed_mb + sum(claim.memory_mb.get(device, 0) for claim in claims) - limits[device]
        for device, needed_mb in needed.items()
        if device in limits
    }
    evicted: list[str] = []
    for claim in sorted(claims, key=lambda claim: claim.used_at):
        helps = any(mb > 0 and claim.memory_mb.get(device, 0) for device, mb in excess.items())
        if claim.idle and helps:
            evicted.append(claim.name)
            excess = {device: mb - claim.memory_mb.get(device, 0) for device, mb in excess.items()}
    return None if any(mb > 0 for mb in excess.values()) else evicted


def _require_within_limits(name: str, needed: Mapping[str, int], limits: Mapping[str, int]) -> None:
    for device, needed_mb in needed.items():
        if needed_mb > limits.get(device, needed_mb):
            raise ModelError(
                f"model {name}: takes about {needed_mb} MiB of {device}, `models.memory_mb` allows "
                f"{limits[device]}: raise it, or set the model's `memory_mb` if it takes less"
            )
