"""The line of progress of switches to another model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from embedfleet.cli.models_switch_report import say_switches
from embedfleet.cli.models_switch_run import CarriedOut, exit_code, progress_words
from embedfleet.model_switching.schemas import SkippedTenant, SwitchInfo, SwitchProgress
from embedfleet.sql.states import SwitchPhase

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def switch(phase: SwitchPhase, there: int, *, seconds: float | None = None, **more: Any) -> SwitchInfo:
    progress = SwitchProgress(
        documents=10,
        there=there,
        under_way=0,
        failed=0,
        share=there / 10,
        tokens_per_second=None,
        seconds_left=seconds,
    )
    given: dict[str, Any] = {
        "switch_id": 1,
        "campaign": "c",
        "tenant_id": "alice",
        "from_model": "old",
        "to_model": "new",
        "trial_of": None,
        "phase": phase,
        "percent": 0.0,
        "wanted_percent": 100.0,
        "sticky_by": "query",
        "paused": False,
        "most_jobs": None,
        "started_at": NOW,
        "changed_at": NOW,
        "switched_at": None,
        "kept_until": None,
        "ended_at": None,
        "forced_by": None,
        "forced_at": None,
        "progress": progress,
        "coverage": None,
        "gate": None,
        "worst": (),
        "stranded": None,
        "receipt": None,
        "says": "",
        "orders": (),
    }
    return SwitchInfo(**given | more)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            [switch(SwitchPhase.FILLING, 4, seconds=90)],
            "filling, 4 of 10 documents in both spaces, about 1m30s more",
        ),
        ([switch(SwitchPhase.SERVING, 10)], "done, 10 of 10 documents in both spaces"),
        (
            [
                switch(SwitchPhase.FILLING, 4),
                switch(SwitchPhase.CHECKING, 10),
                switch(SwitchPhase.SERVING, 10),
            ],
            "3 tenants: filling, checking, 24 of 30 documents in both spaces",
        ),
    ],
)
def test_a_line_says_what_is_done_and_what_is_left(found: list[SwitchInfo], words: str) -> None:
    assert progress_words(found) == words


def test_the_exit_code_says_whether_all_was_done_as_ordered() -> None:
    served, refused = switch(SwitchPhase.SERVING, 10), switch(SwitchPhase.REFUSED, 10)
    left_out = [SkippedTenant(tenant_id="b", reason="it has several models")]
    assert exit_code(CarriedOut((served,), here=True), []) == 0
    assert exit_code(CarriedOut((refused,), here=True), []) == 1
    assert exit_code(CarriedOut((served, refused), here=True), []) == 3
    assert exit_code(CarriedOut((served,)), left_out) == 3
    assert exit_code(CarriedOut(()), left_out) == 1
    assert exit_code(CarriedOut((served,), here=True, interrupted=True), []) == 130
    # A refused switch that is paused, or whose share is changed, has taken that order.
    assert exit_code(CarriedOut((refused,)), []) == 0


def test_a_switch_that_does_not_go_on_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    held_up = switch(SwitchPhase.FILLING, 0, waits_for="model `new`: its weights cannot be read")
    say_switches([held_up], none="none")
    assert "waits      model `new`: its weights cannot be read" in capsys.readouterr().out.splitlines()
    say_switches([held_up, switch(SwitchPhase.FILLING, 0)], none="none")
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "waits: tenant alice: model `new`: its weights cannot be read"


def test_copies_that_failed_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    found = switch(SwitchPhase.FILLING, 0)
    assert found.progress is not None
    failed = found.progress.model_copy(update={"failed": 3, "failed_because": "no weights"})
    say_switches([found.model_copy(update={"progress": failed})], none="none")
    assert "failed     no weights" in capsys.readouterr().out.splitlines()
