"""The sections of workers that Ray places: the cluster, and what a worker of a pool takes of a node."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import Field, field_validator

from embedfleet.settings.section import Section

AUTO = "auto"
"""The address of the cluster that this host is a node of."""
# The rules of Ray 2.60 (`ray._private.label_utils`, `ray._common.ray_option_utils`).
_LEAST = 0.0001
_LABEL_RULE = "a name has up to 63 letters, digits, `-`, `_`, `.`, the first and the last no sign"
_ONE = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_LABEL = re.compile(_ONE)
_PREFIX = re.compile(rf"{_ONE}(?:\.{_ONE})*")
_WANTED = re.compile(rf"!?(?:{_ONE}|in\({_ONE}(?:, ?{_ONE})*\))")


class ResourceSettings(Section):
    """What one worker of a pool takes of a node. Only the launcher `ray` reads it."""

    num_cpus: float = Field(
        default=1.0,
        ge=0,
        description="Cores, also as model threads. Raise for a model on the CPU; a fraction lets more "
        "workers share a node.",
    )
    num_gpus: float = Field(
        default=0.0,
        ge=0,
        description="GPUs; 0.5 lets two workers share one. 0: the worker sees none. Raise for "
        "models on GPUs.",
    )
    memory_mb: int | None = Field(
        default=None,
        ge=1,
        description="Memory that Ray sets aside for the worker. Set it if nodes run out of memory.",
    )
    custom: Mapping[str, float] = Field(
        default={},
        description="Resources with names of your own, which nodes declare. Set it to choose a pool's nodes.",
    )
    labels: Mapping[str, str] = Field(
        default={},
        description="Labels that the node must have. A value may be `!x`, `in(x,y)` or `!in(x,y)`.",
    )

    @field_validator("num_cpus", "num_gpus")
    @classmethod
    def _that_ray_takes(cls, value: float) -> float:
        return _that_ray_takes(value)

    @field_validator("labels")
    @classmethod
    def _labels_that_ray_takes(cls, labels: Mapping[str, str]) -> Mapping[str, str]:
        for key, wanted in labels.items():
            prefix, _, name = key.rpartition("/")
            if not _LABEL.fullmatch(name) or (prefix and not _PREFIX.fullmatch(prefix)):
                raise ValueError(f"{key!r} is no label: {_LABEL_RULE}, after an optional DOMAIN/")
            if not _WANTED.fullmatch(wanted):
                raise ValueError(
                    f"{wanted!r} must be `x`, `!x`, `in(x,y)` or `!in(x,y)`, where {_LABEL_RULE}"
                )
        return labels

    @field_validator("custom")
    @classmethod
    def _amounts_that_ray_takes(cls, custom: Mapping[str, float]) -> Mapping[str, float]:
        for name, amount in custom.items():
            if name in ("CPU", "GPU", "memory"):
                raise ValueError(f"`{name}` has a field of its own: num_cpus, num_gpus or memory_mb")
            if amount <= 0:
                raise ValueError(f"`{name}` is {amount}: it must be more than 0")
            _that_ray_takes(amount)
        return custom

    @property
    def request(self) -> Mapping[str, float]:
        """What a node must have free, by the names that Ray gives its resources; memory in bytes."""
        memory = {} if self.memory_mb is None else {"memory": float(self.memory_mb * 2**20)}
        asked = {"CPU": self.num_cpus, "GPU": self.num_gpus, **memory, **self.custom}
        return {name: amount for name, amount in asked.items() if amount}


class RaySettings(Section):
    """The Ray cluster that places the workers. Only the launcher `ray` reads it."""

    address: str | None = Field(
        default=None,
        description="HOST:PORT of the head. None: RAY_ADDRESS, or the cluster that this host is a node of.",
    )
    namespace: str = Field(
        default="embedfleet",
        min_length=1,
        description="Ray's namespace of the workers. Change it when several fleets share a cluster.",
    )
    require_token: bool = Field(
        default=True,
        description="Refuse a cluster without token authentication: there, everyone on the network may run "
        "code. False only where no one else reaches its ports.",
    )

    @field_validator("address")
    @classmethod
    def _of_a_head(cls, address: str | None) -> str | None:
        if address is not None and address != AUTO:
            head_of(address)
        return address


def head_of(address: str) -> tuple[str, int]:
    """Return the host and the port of a head, from HOST:PORT or [IPV6]:PORT.

    Raises ValueError, which says what is wrong with the address.
    """
    must = "it must be HOST:PORT of the head"
    if "://" in address:
        raise ValueError(
            f"{must}, without a scheme: Ray Client is not supported, nor is the dashboard's port"
        )
    host, _, port = address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError(f"{must}, such as 10.0.0.4:6379, and not {address!r}")
    return host, int(port)


def _that_ray_takes(amount: float) -> float:
    """Return the amount. Ray takes a fraction of one thing, but not of several, and no tiny one."""
    if amount > 1 and amount != int(amount):
        raise ValueError(f"{amount} must be a whole number, or at most 1")
    if 0 < amount < _LEAST:
        raise ValueError(f"{amount} must be 0, or at least {_LEAST}")
    return amount
