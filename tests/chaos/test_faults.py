"""Every fault in its short form, on real servers. What it takes at full size is `make chaos`.

R13 is not here: `e2e/test_benchmarks.py` runs the very same rounds. R4 fails now and then, as it does at full
size: docs/reliability.md says by how much. That nothing is lost or doubled is also R1's and R2's to show.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chaos.faults import FAULTS
from chaos.runs import Runs
from chaos.verdict import Size

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("fleet")]


_KNOWN = pytest.mark.xfail(reason="some tasks are not taken over while their worker is frozen", strict=False)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, marks=_KNOWN if fault == "R4" else ()) for fault in sorted(set(FAULTS) - {"R13"})],
)
async def test_nothing_is_lost_or_doubled(tmp_path: Path, fault: str) -> None:
    outcome = await Runs(tmp_path, seed=7, size=Size.SHORT).run(fault)
    assert outcome.findings == []
    assert outcome.line.startswith(f"{fault} PASS  ")
    published = json.loads((tmp_path / "results" / f"{fault}.json").read_text())
    assert (published["name"], published["figures"]["seed"]) == (fault, 7)
