"""Submits many documents that come as lines of JSON. An error of a line is the answer to that line only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from embedfleet.api.access import Principal
from embedfleet.api.fields import access_of
from embedfleet.api.lines import Line, lines_of
from embedfleet.api.parts import ApiParts
from embedfleet.api.problems import Problem, problem_of
from embedfleet.api.submitting import NewJob, refusal
from embedfleet.errors import EmbedfleetError, InvalidRequest
from embedfleet.positions import Position
from embedfleet.queue_schemas import JobRequest
from embedfleet.waiting import in_groups

# Lines are submitted in groups: a transaction costs more than a document. A group is short enough that the
# answer to its first line comes soon.
_GROUP_BYTES = 1 << 20
_GROUP_LINES = 64
_LONGEST_WAIT_SECONDS = 0.1


class BulkAnswer(BaseModel):
    """The answer to one line: it has a job, or an error."""

    line: int = Field(description="The number of the line, from 1; blank lines count.")
    media_id: str | None = None
    job_id: str | None = None
    error: Problem | None = None


class BulkEnd(BaseModel):
    """The last line of an answer. Without it, the answer was cut off."""

    submitted: int = Field(description="How many lines have a job.")
    failed: int = Field(description="How many lines have an error.")
    position: str | None = Field(
        default=None,
        description="Pass it to a search as `after`: it waits until this can be found. Missing: no job.",
    )
    error: Problem | None = Field(default=None, description="Why the lines after these were not taken.")


@dataclass(frozen=True, slots=True)
class _Read:
    """A line, and the request in it or what is wrong with it."""

    line: Line
    outcome: JobRequest | EmbedfleetError


class BulkSubmission:
    """The submission of lines for one tenant."""

    def __init__(self, parts: ApiParts, caller: Principal) -> None:
        self._parts = parts
        self._tenant = caller.tenant
        self._access = access_of(parts, caller)
        self._submitted = 0
        self._failed = 0
        self._first = self._last = ""

    async def answers(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the answers to the lines of the body, in order, some lines at a time.

        It ends early if the server stops. An exception of the body is raised here.
        """
        most = self._parts.settings.http.max_body_bytes
        async with (
            aclosing(lines_of(body, most_bytes=most)) as lines,
            aclosing(
                in_groups(
                    lines,
                    size_of=_size,
                    full=_GROUP_BYTES,
                    longest_wait_seconds=_LONGEST_WAIT_SECONDS,
                )
            ) as groups,
        ):
            async for group in groups:
                yield await self._answer(group)
                if self._parts.stopping.is_set():
                    return

    def end(self, error: Problem | None = None) -> bytes:
        """Return the last line of the answer."""
        position = str(Position(self._first, self._last)) if self._first else None
        end = BulkEnd(submitted=self._submitted, failed=self._failed, position=position, error=error)
        return end.model_dump_json(exclude_none=True).encode() + b"\n"

    async def _answer(self, group: Sequence[Line]) -> bytes:
        read = [_Read(line, self._read(line)) for line in group]
        requests = [one.outcome for one in read if isinstance(one.outcome, JobRequest)]
        made = iter(await self._access.create_each(requests))
        answers = [
            self._answer_to(one, next(made) if isinstance(one.outcome, JobRequest) else one.outcome)
            for one in read
        ]
        return b"".join(one.model_dump_json(exclude_none=True).encode() + b"\n" for one in answers)

    def _read(self, line: Line) -> JobRequest | EmbedfleetError:
        if line.text is None:
            most = self._parts.settings.http.max_body_bytes
            return InvalidRequest(f"the line has more than {most} bytes: upload a large text as a file")
        try:
            return NewJob.model_validate_json(line.text).request(self._tenant)
        except ValidationError as exc:
            return refusal(exc)
        except EmbedfleetError as exc:
            return exc

    def _answer_to(self, read: _Read, outcome: str | EmbedfleetError) -> BulkAnswer:
        media_id = read.outcome.media_id if isinstance(read.outcome, JobRequest) else None
        if isinstance(outcome, EmbedfleetError):
            self._failed += 1
            return BulkAnswer(line=read.line.number, media_id=media_id, error=problem_of(outcome))
        self._submitted += 1
        # The ids of one call are in order, but a version that is under way has the id of an earlier job.
        self._first = min(self._first or outcome, outcome)
        self._last = max(self._last, outcome)
        return BulkAnswer(line=read.line.number, media_id=media_id, job_id=outcome)


def _size(line: Line) -> int:
    return max(len(line.text or b""), _GROUP_BYTES // _GROUP_LINES)
