"""Positions: what a submission returns, so that a later search can wait until it finds what was submitted.

A position is text without a meaning for callers. That of one job is its id. That of several is `FIRST..LAST`,
their lowest and their highest id: it stands for all jobs of the tenant between them. Ids begin with the time
of their making, so these are the jobs that were submitted together, and any that came in between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import JobStatus

_POSITION = re.compile(r"(job_[0-9a-f]{32})(?:\.\.(job_[0-9a-f]{32}))?")


class MissingJob(BaseModel):
    """A job that has ended, and whose document searches do not find, or not all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    status: JobStatus
    reason: str | None = Field(default=None, description="Why, in one line.")


@dataclass(frozen=True, slots=True)
class Position:
    """The jobs with ids from `first` to `last`, both included."""

    first: str
    last: str

    @classmethod
    def of_jobs(cls, job_ids: Sequence[str]) -> Position:
        """Return the position of these jobs, one at least."""
        return cls(min(job_ids), max(job_ids))

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position that `str` wrote. Raises InvalidRequest for any other text."""
        found = _POSITION.fullmatch(text)
        if found is None or (found[2] or found[1]) < found[1]:
            raise InvalidRequest(
                "after: is not a position: pass what the submission returned as `position`", field="after"
            )
        return cls(found[1], found[2] or found[1])

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first}..{self.last}"
