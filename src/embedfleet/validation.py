"""Describes the first problem that Pydantic found: the field that has it, and a message in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a value.

    `path` holds the names that lead to the field. If the value as a whole is wrong, `path` is empty. `given`
    is the value that the caller gave.
    """

    path: tuple[str, ...]
    kind: str
    message: str
    given: Any

    @property
    def field(self) -> str:
        """The path with dots, such as `worker_pools.embedding.workers`."""
        return ".".join(self.path)


def first_problem(exc: ValidationError) -> Problem:
    """Return the first of the problems that Pydantic lists."""
    problem = exc.errors()[0]
    # A key of a mapping that is itself wrong has "[key]" behind its name.
    path = tuple(str(part) for part in problem["loc"] if part != "[key]")
    # Pydantic puts this before the messages of our own validators.
    message = problem["msg"].removeprefix("Value error, ")
    return Problem(path, problem["type"], message, problem.get("input"))
