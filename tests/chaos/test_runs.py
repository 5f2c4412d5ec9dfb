"""A suite that was interrupted goes on; a failure is said, kept and published."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.runs import Runs
from chaos.table import renew, table
from chaos.verdict import Context, Run, Size, Verdict

from chaos import runs as module

Plant = Callable[..., list[Context]]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Put a fault of the test's own in the place of all; the contexts it was run with."""

    def plant(verdict: Verdict | Exception, *, commit: str = "abc") -> list[Context]:
        seen: list[Context] = []

        async def run(context: Context) -> Verdict:
            seen.append(context)
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

        def runner(_fault: str) -> Run:
            return run

        monkeypatch.setattr(module, "runner", runner)
        monkeypatch.setattr(module, "_commit", lambda: commit)
        return seen

    return plant


GOOD = Verdict("10 kills", "0 lost", figures={"kills": 10})


async def test_a_finished_fault_is_not_run_again_with_the_same_seed_size_and_commit(
    tmp_path: Path, plant: Plant
) -> None:
    plant(GOOD)
    first = await Runs(tmp_path, seed=1, size=Size.SHORT).run("R1")
    assert first.line == "R1 PASS  10 kills: 0 lost (seed 1, 0 s)"
    assert Runs(tmp_path, seed=1, size=Size.SHORT).done("R1") == first
    assert Runs(tmp_path, seed=1, size=Size.SHORT).done("R2") is None
    assert Runs(tmp_path, seed=2, size=Size.SHORT).done("R1") is None
    assert Runs(tmp_path, seed=1, size=Size.FULL, results=tmp_path).done("R1") is None
    plant(GOOD, commit="def")
    assert Runs(tmp_path, seed=1, size=Size.SHORT).done("R1") is None


async def test_what_ran_on_changed_sources_is_run_again(tmp_path: Path, plant: Plant) -> None:
    plant(GOOD, commit="abc+")
    await Runs(tmp_path, seed=1, size=Size.SHORT).run("R1")
    assert Runs(tmp_path, seed=1, size=Size.SHORT).done("R1") is None


@pytest.mark.parametrize("broken", [Verdict("10 kills", "1 lost", ["lost: x"]), RuntimeError("no server")])
async def test_a_failure_is_said_kept_and_published(
    tmp_path: Path, plant: Plant, broken: Verdict | Exception
) -> None:
    plant(broken)
    outcome = await Runs(tmp_path, seed=1, size=Size.FULL, results=tmp_path / "results").run("R3")
    assert outcome.line.startswith("R3 FAIL  ")
    assert Runs(tmp_path, seed=1, size=Size.FULL).done("R3") == outcome
    published = json.loads((tmp_path / "results" / "R3.json").read_text())
    assert published["figures"]["findings"] == outcome.findings != []
    assert "| R3 | **fail** |" in table(tmp_path / "results")


async def test_the_same_seed_gives_a_fault_the_same_chances(tmp_path: Path, plant: Plant) -> None:
    seen = plant(GOOD)
    for seed in (1, 1, 2):
        await Runs(tmp_path, seed=seed, size=Size.SHORT).run("R1")
    one, same, other = [context.rng.random() for context in seen]
    assert one == same != other


async def test_the_table_takes_the_place_of_the_last_one(tmp_path: Path, plant: Plant) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results"
    page.write_text("before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n")
    plant(GOOD)
    await Runs(tmp_path, seed=1, size=Size.FULL, results=results).run("R1")
    assert renew(page, results) == 0
    assert renew(page, results) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| R1 | pass | 10 kills | 0 lost | 1 | 0 |") == 1
    assert "| R2 | not run yet |" in text
