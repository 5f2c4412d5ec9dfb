"""Every fault in its short form, on real servers. What it takes at full size is `make chaos`.

R13 is not here: `e2e/test_benchmarks.py` runs the very same rounds. All but one are slow, as others do the
like of them: `e2e/test_fleet.py` kills a worker of every stage under load (R1), and Redis (R3), PostgreSQL
and Chroma (R6, R10) in the middle of work; `integration/test_crash_points.py` is R2,
`integration/test_fan_in.py` R5, and `e2e/test_poison.py` R11.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chaos.faults import FAULTS
from chaos.runs import Runs
from chaos.verdict import Size

IN_SMALL = [
    pytest.param(fault, marks=[pytest.mark.slow] * (fault != "R4")) for fault in FAULTS if fault != "R13"
]


@pytest.mark.parametrize("fault", IN_SMALL)
async def test_nothing_is_lost_or_doubled(tmp_path: Path, fault: str) -> None:
    outcome = await Runs(tmp_path, seed=7, size=Size.SHORT).run(fault)
    assert outcome.findings == []
    assert outcome.line.startswith(f"{fault} PASS  ")
    published = json.loads((tmp_path / "results" / f"{fault}.json").read_text())
    assert (published["name"], published["figures"]["seed"]) == (fault, 7)
