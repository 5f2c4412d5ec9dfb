"""What a fault is run with, and what comes of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from support.hangs import HANG_SECONDS


class Size(StrEnum):
    """`full`: the published figures. `short`: for CI, the same code in seconds."""

    FULL = "full"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class Context:
    """`rng` is the only source of chance; `folder` is the fault's own and empty."""

    fault: str
    seed: int
    size: Size
    folder: Path
    rng: random.Random

    @classmethod
    def of(cls, fault: str, *, seed: int, size: Size, folder: Path) -> Context:
        return cls(fault, seed, size, folder, random.Random(f"{fault}/{seed}"))

    def sized(self, *, full: int, short: int) -> int:
        return full if self.size is Size.FULL else short

    def allowed_seconds(self, full: float) -> float:
        """How long something may take: `full` at full size, which runs alone. In small it runs beside other
        tests on a machine of any speed, so only a hang takes too long."""
        return full if self.size is Size.FULL else HANG_SECONDS


@dataclass(frozen=True, slots=True)
class Verdict:
    """`done`: what was injected. `outcome`: what was measured. `findings`: what is wrong, a line each;
    without any the fault has passed. `figures`: JSON values, units in the keys."""

    done: str
    outcome: str
    findings: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.findings


Run = Callable[[Context], Awaitable[Verdict]]
