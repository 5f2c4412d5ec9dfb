"""Tracks how far the tasks of one claim are embedded, as each task is handed on as soon as it is complete."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.isolation import IsolatedOutcome
from embedfleet.inference.runner import EmbedOutcome

KnownVectors = Sequence[NDArray[np.float32] | None]
"""The vector of each wanted chunk of a task; None for a chunk that the model must embed."""


class ClaimProgress:
    """Collects vectors until each task of the claim has all of its own.

    A row is one wanted chunk. Rows are numbered over all tasks, one task after the other; tasks are numbered
    in the order of `known`.

    `missing`: int64 (m,), the rows that the model must embed.
    `owners`: int64 (m,), the task number of each of these rows.
    `missing_of_task`: int64 (number of tasks,), how many rows of each task the model must embed.
    `changed`: an event that is set at the start, and again when vectors arrive. Its reader clears it.
    """

    def __init__(self, known: Sequence[KnownVectors], dim: int) -> None:
        vectors = [vector for task in known for vector in task]
        task_of_row = np.repeat(np.arange(len(known)), [len(task) for task in known])
        # The first row of each task, and at the end one more entry: the number of all rows.
        self._first_rows = list(accumulate((len(task) for task in known), initial=0))
        self._vectors = np.zeros((len(vectors), dim), dtype=np.float32)
        self._failed: dict[int, str] = {}
        for row, vector in enumerate(vectors):
            if vector is not None:
                self._vectors[row] = vector
        self.missing = np.array([row for row, vector in enumerate(vectors) if vector is None], dtype=np.int64)
        self.owners = task_of_row[self.missing].astype(np.int64)
        self._awaited_rows = set(self.missing.tolist())
        self.missing_of_task = np.bincount(self.owners, minlength=len(known))
        self._awaited_of_task = self.missing_of_task.copy()
        self._completed = np.flatnonzero(self._awaited_of_task == 0).tolist()
        self._partial: set[int] = set()
        self.changed = asyncio.Event()
        self.changed.set()  # tasks without a missing row are complete already

    def add_outcome(self, positions: NDArray[np.int64], outcome: IsolatedOutcome) -> None:
        """Add the model's outcome for these positions of `missing`. Give each position once only."""
        rows = self.missing[positions]
        self._vectors[rows] = outcome.vectors
        self._awaited_rows.difference_update(rows.tolist())
        self._failed.update((int(rows[i]), reason) for i, reason in outcome.failed.items())
        tasks, counts = np.unique(self.owners[positions], return_counts=True)
        self._awaited_of_task[tasks] -= counts
        self._completed += tasks[self._awaited_of_task[tasks] == 0].tolist()
        self._partial.update(tasks.tolist())
        self.changed.set()

    def take_completed(self) -> list[int]:
        """Return the numbers of the tasks that were completed since the last call."""
        completed, self._completed = self._completed, []
        self._partial.difference_update(completed)
        return completed

    def take_partial(self) -> list[int]:
        """Return the numbers of the tasks that have only some of their vectors.

        From now on the rows that are still awaited count as failed. So call this after the model has stopped.
        """
        partial = sorted(self._partial)
        self._failed.update((int(row), "not embedded") for row in self._awaited_rows)
        return partial

    def outcome(self, task: int) -> EmbedOutcome:
        """Return the vectors and failures of all wanted chunks of the task. The task must have been taken."""
        start, end = self._first_rows[task], self._first_rows[task + 1]
        failed: dict[int, str] = {}
        if self._failed:
            failed = {row - start: self._failed[row] for row in range(start, end) if row in self._failed}
        return EmbedOutcome(self._vectors[start:end], failed)
