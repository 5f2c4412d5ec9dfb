"""The id of an embedding or storage task: which batch, of which run of its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from embedfleet.storage.jobs import Job


@dataclass(frozen=True, slots=True)
class BatchId:
    """A retried job has a new run: what is still on its way from an earlier one must not be counted in it,
    as the vectors that it found to be there may have been deleted since."""

    job_id: str
    run: int
    ordinal: int

    def __str__(self) -> str:
        return f"{self.job_id}:{self.run}:{self.ordinal}"

    @classmethod
    def parse(cls, task_id: str) -> Self:
        job_id, run, ordinal = task_id.rsplit(":", 2)
        return cls(job_id, int(run), int(ordinal))

    def wanted_by(self, job: Job) -> bool:
        """Whether the job still waits for this batch's run."""
        return not job.status.terminal and job.run == self.run
