"""What no argument of any command may be: it is refused as it is read, before a command does anything."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from embedfleet.printable import harmless

_LARGEST_INTEGER = 2**63 - 1  # what SQLite and PostgreSQL hold
# An empty tenant or path comes from a variable that is not set. It must not mean the default tenant or the
# current folder. These arguments may be empty, or say themselves why they may not.
_MAY_BE_EMPTY = ("query", "query_prefix", "document_prefix", "description")


def checked(command: Any) -> Any:
    """Have every argument and option below this command checked; returns the command.

    A file name may be of any bytes. Any other text must be UTF-8, since databases and models take nothing
    else. A number must be finite and of 64 bits. Nothing may be empty without a reason.
    """
    for parameter in command.params:
        if parameter.callback is None:
            parameter.callback = _check
    for inner in getattr(command, "commands", {}).values():
        checked(inner)
    return command


def _check(context: Any, parameter: Any, value: Any) -> Any:
    for one in value if isinstance(value, list | tuple) else (value,):
        problem = _problem(one, context, parameter)
        if problem is not None:
            raise typer.BadParameter(problem, ctx=context, param=parameter)
    return value


def _problem(value: object, context: Any, parameter: Any) -> str | None:
    """Say what is wrong with a value; None if nothing is."""
    if isinstance(value, Path):
        empty = value == Path() and _given_empty(context.command.params, parameter, sys.argv[1:])
        return "it is empty: is a variable not set? Give . for the current folder" if empty else None
    if value == "" and parameter.name not in _MAY_BE_EMPTY:
        return "it is empty: is a variable not set?"
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        return f"`{harmless(value)}` is not UTF-8: give it in UTF-8"
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return f"{value} is beyond 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    return None


def _given_empty(parameters: Iterable[Any], parameter: Any, arguments: Sequence[str]) -> bool:
    """Whether an empty path was typed for the parameter: Python reads an empty path as the current folder."""
    takes_value = {
        name for one in parameters if not getattr(one, "is_flag", False) for name in _option_names(one)
    }
    own = _option_names(parameter)
    for before, argument in pairwise(("", *arguments)):
        if any(argument == f"{name}=" for name in own):
            return True
        if argument == "" and (before in own if own else before not in takes_value):
            return True
    return False


def _option_names(parameter: Any) -> list[str]:
    """The names of an option, such as `-n` and `--limit`; none for a positional argument."""
    return [name for name in parameter.opts if name.startswith("-")]
