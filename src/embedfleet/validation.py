"""Describes the first problem that Pydantic found: the field that has it, and a message in one line.

Models that applications make raise it as an error of our tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from embedfleet.errors import EmbedfleetError, InvalidRequest

# Values of these fields are never shown: they are private, and may be long.
_PRIVATE_FIELDS = ("content", "query")
_LONGEST_SHOWN = 80


# What ends the part of a URL with user and password, or makes it ambiguous, and a `%` that encodes nothing.
_NOT_ENCODED = re.compile(r"[/?#@\[\]\s]|%(?![0-9A-Fa-f]{2})")

HOW_TO_ENCODE = "percent-encode it (`@` is %40, `/` is %2F, `#` is %23, `%` is %25)"
"""The end of a message about a URL that is not encoded."""


def is_encoded(url: str) -> bool:
    """Whether the user and password of a URL are percent-encoded, so that all its readers see the same parts.

    If they are not, a part of the password would be taken for the host or the path, and end up in messages.
    A URL with an `@` in its path, which may be meant so, is not encoded either.
    """
    _, _, rest = url.partition("://")
    login, at, _ = rest.rpartition("@")
    return not at or _NOT_ENCODED.search(login) is None


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
    """Return the first of the problems that Pydantic lists, but an unknown name before all others.

    The unknown name is probably a misspelling of a field that Pydantic misses.
    """
    problems = exc.errors()
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    # A key of a mapping that is itself wrong has "[key]" behind its name.
    path = tuple(str(part) for part in problem["loc"] if part != "[key]")
    return Problem(path, problem["type"], plain_message(problem["msg"]), problem.get("input"))


def plain_message(message: str) -> str:
    """Return a message of Pydantic as a person reads it, who writes lists and does not know of tuples."""
    # Pydantic puts this before the messages of our own validators.
    message = message.removeprefix("Value error, ").removesuffix(" after validation")
    message = message.replace("Tuple should have", "List should have").replace(" after validation,", ",")
    return message.replace("Input should be a valid tuple", "Input should be a list")


def invalid_request(exc: ValidationError, name: str) -> InvalidRequest:
    """Return the InvalidRequest for the first problem, of a model that is called `name`."""
    problem = first_problem(exc)
    given = problem.given
    short = isinstance(given, str) and len(given) <= _LONGEST_SHOWN and problem.field not in _PRIVATE_FIELDS
    shown = f" (got {given!r})" if short or isinstance(given, int | float | bool) else ""
    reason = problem.message + shown
    return InvalidRequest(f"{problem.field or name}: {reason}", field=problem.field, reason=reason)


class Checked(BaseModel):
    """The base of models that applications make. A wrong value raises InvalidRequest, in one line.

    Where such a model is a field of another one, Pydantic validates it by itself, and the error of the outer
    model names the whole path.
    """

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as exc:
            raise self._error_of(exc) from None  # it would show the given values in a traceback

    # Pydantic calls an `__init__` of our own for nested models too, unless it is marked as its own is. Then
    # the path to the field would be lost.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Build the model from a mapping. Raises as the constructor does."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as exc:
            raise cls._error_of(exc) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Build the model from JSON. Raises as the constructor does."""
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as exc:
            raise cls._error_of(exc) from None

    @classmethod
    def _error_of(cls, exc: ValidationError) -> EmbedfleetError:
        return invalid_request(exc, cls.__name__)
