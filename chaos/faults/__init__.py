"""Which faults there are. Each is a module with `async def run(context) -> Verdict`."""

from __future__ import annotations

import importlib
from typing import cast

from chaos.verdict import Run

FAULTS = {
    "R1": ("killed_workers", "kill -9 of random workers under load"),
    "R2": ("stopped_at_boundaries", "stop at every boundary: killed, exception, delivered twice"),
    "R3": ("lost_redis", "Redis killed, its log cut, emptied"),
    "R4": ("frozen_workers", "workers frozen for three leases"),
    "R5": ("fan_in", "completions out of order and delivered twice"),
    "R6": ("killed_chroma", "Chroma killed in the middle of upserts"),
    "R10": ("cut_network", "network to a service gone"),
    "R11": ("poison", "texts and files that model and parser do not survive"),
    "R13": ("stopped_orchestrators", "SIGTERM under load"),
}


def runner(fault: str) -> Run:
    """Imported only when it runs."""
    module = importlib.import_module(f"chaos.faults.{FAULTS[fault][0]}")
    return cast(Run, module.run)
