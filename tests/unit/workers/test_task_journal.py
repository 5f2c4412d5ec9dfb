"""The journal names the tasks that a process had in hand when it died, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.queue.broker import Lease, Task
from embedfleet.queue_schemas import Stage
from embedfleet.workers.task_journal import TaskJournal, read_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in-hand"


@pytest.fixture
def journal(path: Path) -> Iterator[TaskJournal]:
    journal = TaskJournal.open(path)
    yield journal
    journal.close()


def lease(task_id: str) -> Lease:
    task = Task(id=task_id, tenant="t", job_id="j", cost=1, payload=b"")
    return Lease(Stage.EMBEDDING, task, fence=1, attempt=1, expires_at=0.0)


def test_tasks_in_hand_are_in_the_journal_and_those_removed_are_not(journal: TaskJournal, path: Path) -> None:
    with journal.recorded([lease("a long name of a task"), lease("b")]):
        with journal.recorded([lease("c")]):
            assert [task for _, task, _ in read_journal(path)] == ["a long name of a task", "b", "c"]
        assert read_journal(path)[1] == ("embedding", "b", "j")
    assert read_journal(path) == []


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x91\x01", b"\x93\x01\x02", b"\x91\x93\xa1a"])
def test_a_broken_file_reads_as_empty(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_journal(path) == []


def test_a_missing_file_reads_as_empty(path: Path) -> None:
    assert read_journal(path) == []
