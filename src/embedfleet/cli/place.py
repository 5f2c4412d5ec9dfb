"""Where the system of a command is: the options that say it, for every command that acts on one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import typer

from embedfleet.cli.options import ApiKey, ConfigFile, DataDir, Server, settings_from

if TYPE_CHECKING:
    from embedfleet.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

# The last options of every command that takes a Place, in this order.
_OPTIONS = {"data_dir": DataDir, "config": ConfigFile, "server": Server, "api_key": ApiKey}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the system of a command is: on a server, or in a data directory and what the settings name."""

    data_dir: Path | None = None
    config: Path | None = None
    server: str | None = None
    api_key: str | None = field(default=None, repr=False)
    by_options: bool = False
    """Whether an option says it."""

    @classmethod
    def of(cls, data_dir: Path | None, config: Path | None, server: str | None, api_key: str | None) -> Place:
        """Return the place that these options and the environment say. An option counts more.

        Raises BadParameter for options that contradict each other.
        """
        from embedfleet.settings.loading import API_KEY_ENV, SERVER_ENV

        is_local = data_dir is not None or config is not None
        if is_local and server is not None:
            raise typer.BadParameter(
                "a server has its own data directory and settings: leave out --data-dir and --config",
                param_hint="--server",
            )
        address = None if is_local else server or os.environ.get(SERVER_ENV) or None
        if address is None and api_key is not None:
            raise typer.BadParameter("it is for a server: give --server too", param_hint="--api-key")
        key = None if address is None else api_key or os.environ.get(API_KEY_ENV) or None
        return cls(data_dir, config, address, key, by_options=is_local or server is not None)

    @property
    def log_json(self) -> bool:
        """Whether logs are JSON. A server has its own settings, and this process logs little."""
        return self.server is None and self.settings().monitoring.log_json

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
        place = Place.of(**{name: named.pop(name, None) for name in _OPTIONS})
        return command(place, *args, **named)

    # Typer reads both: which options there are, and of which types.
    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in [*own, *added]}
    return run
