"""The vectors of a claim's tasks as they arrive: each task is whole before the claim is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.isolation import IsolatedOutcome
from embedfleet.inference.runner import EmbedOutcome

KnownVectors = Sequence[NDArray[np.float32] | None]
"""Of each wanted chunk of a task; None: only the model can tell."""


class Gathering:
    """Rows are those of all tasks' wanted chunks, one task after the other.

    `missing`: int64 (m,), the rows the model must be asked for; `owners`: int64 (m,), the number of each
    one's task. `news` is set when tasks have become whole.
    """

    def __init__(self, known: Sequence[KnownVectors], dim: int) -> None:
        vectors = [vector for one in known for vector in one]
        owners = np.repeat(np.arange(len(known)), [len(one) for one in known])
        self._ends = np.cumsum([0, *(len(one) for one in known)])
        self._vectors = np.zeros((len(vectors), dim), dtype=np.float32)
        self._failed: dict[int, str] = {}
        for row, vector in enumerate(vectors):
            if vector is not None:
                self._vectors[row] = vector
        self.missing = np.array([row for row, vector in enumerate(vectors) if vector is None], dtype=np.int64)
        self._to_come = set(self.missing.tolist())
        self.owners = owners[self.missing].astype(np.int64)
        self._left = np.bincount(self.owners, minlength=len(known))
        self._whole = np.flatnonzero(self._left == 0).tolist()
        self._begun: set[int] = set()
        self.news = asyncio.Event()
        self.news.set()

    def arrived(self, positions: NDArray[np.int64], outcome: IsolatedOutcome) -> None:
        """The model's outcome for these positions of `missing`."""
        rows = self.missing[positions]
        self._vectors[rows] = outcome.vectors
        self._to_come.difference_update(rows.tolist())
        self._failed.update((int(rows[i]), reason) for i, reason in outcome.failed.items())
        tasks, counts = np.unique(self.owners[positions], return_counts=True)
        self._left[tasks] -= counts
        self._whole += tasks[self._left[tasks] == 0].tolist()
        self._begun.update(tasks.tolist())
        self.news.set()

    def take_whole(self) -> list[int]:
        """Numbers of the tasks that have become whole since it was last asked."""
        whole, self._whole = self._whole, []
        self._begun.difference_update(whole)
        return whole

    def take_begun(self) -> list[int]:
        """Numbers of the tasks of which something has arrived, and that were not taken whole. What is still
        to come counts as failed from now on."""
        begun = sorted(self._begun)
        self._failed.update((int(row), "not embedded") for row in self._to_come)
        return begun

    def embedded(self, task: int) -> NDArray[np.int64]:
        """Positions among the task's wanted chunks of those that the model was asked for."""
        rows: NDArray[np.int64] = self.missing[self.owners == task]
        return rows - int(self._ends[task])

    def outcome(self, task: int) -> EmbedOutcome:
        """Of all wanted chunks of a task that is whole."""
        start, end = self._ends[task], self._ends[task + 1]
        failed = {row - int(start): self._failed[row] for row in range(start, end) if row in self._failed}
        return EmbedOutcome(self._vectors[start:end], failed)
