"""What was in hand is known after the death of the process, and only that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.queue.broker import Lease, Task
from embedfleet.queue_schemas import Stage
from embedfleet.workers.in_hand import InHand, read_noted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in-hand"


@pytest.fixture
def in_hand(path: Path) -> Iterator[InHand]:
    in_hand = InHand.open(path, {("embedding", "j:1:0"): 2})
    yield in_hand
    in_hand.close()


def lease(task_id: str) -> Lease:
    task = Task(id=task_id, tenant="t", job_id="j", cost=1, payload=b"")
    return Lease(Stage.EMBEDDING, task, fence=1, attempt=1, expires_at=0.0)


def test_what_is_held_is_noted_and_what_is_let_go_is_not(in_hand: InHand, path: Path) -> None:
    with in_hand.holding([lease("a long name of a task"), lease("b")]):
        with in_hand.holding([lease("c")]):
            assert [task for _, task, _ in read_noted(path)] == ["a long name of a task", "b", "c"]
        assert read_noted(path)[1] == ("embedding", "b", "j")
    assert read_noted(path) == []


def test_the_deaths_of_earlier_lives_are_told_by_stage_and_task(in_hand: InHand) -> None:
    assert in_hand.deaths_of(Stage.EMBEDDING, "j:1:0") == 2
    assert in_hand.deaths_of(Stage.STORAGE, "j:1:0") == 0


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x91\x01", b"\x93\x01\x02", b"\x91\x93\xa1a"])
def test_a_file_that_says_nothing_sensible_says_nothing(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_noted(path) == []


def test_no_file_says_nothing(path: Path) -> None:
    assert read_noted(path) == []
