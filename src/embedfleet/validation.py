"""What Pydantic found wrong, in one line: the first problem, and which field has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a value.

    `path`: the names that lead to the field; empty if the value as a whole is wrong. `given`: what was given.
    """

    path: tuple[str, ...]
    kind: str
    message: str
    given: Any

    @property
    def field(self) -> str:
        """The path as people write it: `worker_pools.embedding.workers`."""
        return ".".join(self.path)


def first_problem(exc: ValidationError) -> Problem:
    """The first of the problems that Pydantic lists."""
    problem = exc.errors()[0]
    # A key of a mapping that is itself wrong has "[key]" behind its name.
    path = tuple(str(part) for part in problem["loc"] if part != "[key]")
    # What our own validators raise gets this in front of it.
    message = problem["msg"].removeprefix("Value error, ")
    return Problem(path, problem["type"], message, problem.get("input"))
