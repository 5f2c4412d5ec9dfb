"""The id of an embedding or storage task: which batch, or part of one, of which run of its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from embedfleet.records.jobs import Job


@dataclass(frozen=True, slots=True)
class BatchId:
    """A retried job has a new run: what is still on its way from an earlier one must not be counted in it,
    as the vectors that it found to be there may have been deleted since. `span`: positions [first, past) of
    the batch; None: all of it."""

    job_id: str
    run: int
    ordinal: int
    span: tuple[int, int] | None = None

    def __str__(self) -> str:
        batch = f"{self.job_id}:{self.run}:{self.ordinal}"
        return batch if self.span is None else f"{batch}:{self.span[0]}-{self.span[1]}"

    @classmethod
    def parse(cls, task_id: str) -> Self:
        rest, _, last = task_id.rpartition(":")
        span = None
        if "-" in last:
            first, _, past = last.partition("-")
            span = int(first), int(past)
            rest, _, last = rest.rpartition(":")
        job_id, _, run = rest.rpartition(":")
        return cls(job_id, int(run), int(last), span)

    def wanted_by(self, job: Job) -> bool:
        """Whether the job still waits for this batch's run."""
        return not job.status.terminal and job.run == self.run
