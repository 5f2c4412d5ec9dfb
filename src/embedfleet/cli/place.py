"""Where the system of a command is: the options that say it, for every command that acts on one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from embedfleet.cli.options import ConfigFile, DataDir, settings_from

if TYPE_CHECKING:
    from embedfleet.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

# The last options of every command that takes a Place, in this order.
_OPTIONS = {"data_dir": DataDir, "config": ConfigFile}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the system of a command is."""

    data_dir: Path | None = None
    config: Path | None = None

    @property
    def log_json(self) -> bool:
        """Whether logs are JSON."""
        return self.settings().monitoring.log_json

    def settings(self) -> Settings:
        """Return the settings of the command: defaults < file < environment < flags."""
        return settings_from(self.data_dir, self.config)


def somewhere(command: Callable[Concatenate[Place, P], T]) -> Callable[..., T]:
    """Give the command the options that say where its system is. It gets them as its first argument."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != "place"]
    added = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind)
        for name, kind in _OPTIONS.items()
    ]

    @wraps(command)
    def run(*args: Any, **named: Any) -> T:
        place = Place(**{name: named.pop(name, None) for name in _OPTIONS})
        return command(place, *args, **named)

    # Typer reads both: which options there are, and of which types.
    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in [*own, *added]}
    return run
