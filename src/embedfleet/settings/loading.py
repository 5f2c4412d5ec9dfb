"""Loads the settings: merges defaults < YAML file < environment < flags, and validates the result."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import BaseModel, TypeAdapter, ValidationError

from embedfleet.errors import ConfigError, hint
from embedfleet.settings.sections import Settings
from embedfleet.settings.yaml_text import parse, parse_sections, read_text
from embedfleet.validation import Problem, first_problem

ENV_PREFIX = "EMBEDFLEET_"
ENV_SEPARATOR = "__"
DEBUG_ENV = "EMBEDFLEET_DEBUG"
"""Not a setting: with it, the command line shows the traceback of an internal error."""
CONFIG_ENV = "EMBEDFLEET_CONFIG"
"""Not a setting: names the settings file of commands and programs that are given none."""
SERVER_ENV = "EMBEDFLEET_SERVER"
"""Not a setting: the address of the server that commands speak to, in place of a data directory."""
API_KEY_ENV = "EMBEDFLEET_API_KEY"
"""Not a setting: the API key for that server."""
# It raises Pydantic's own error, whose path leads to the source of the wrong value.
_SETTINGS = TypeAdapter(Settings)
_NO_SETTINGS = (DEBUG_ENV, CONFIG_ENV, SERVER_ENV, API_KEY_ENV)


def load_settings(
    config_file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge the sources and validate. Commands and programs get their settings here, and so the same ones.

    Without a `config_file`, this reads the usual one: the file that EMBEDFLEET_CONFIG names, otherwise the
    user's own, if there is one. To read no file, pass `Path(os.devnull)`.

    A given `environ` stands in place of the process's environment. Then the user's own file is not read, as
    the process's environment says where that is. `overrides` is nested like the YAML, and wins over the other
    sources.

    Raises ConfigError, which names the source of the wrong value, its path and the allowed values.
    """
    file = _file_to_read(environ) if config_file is None else config_file
    sources = [
        *([] if file is None else [_file(file)]),
        _Source(ENV_PREFIX, _read_environment(os.environ if environ is None else environ)),
        _Source("command line", overrides or {}),
    ]
    # Merged into all the defaults: the default of a pool differs from that of its class.
    # The section of chunking completes itself, as its defaults depend on what is given.
    merged = Settings().model_dump() | {"chunking": {}}
    for source in sources:
        _merge(merged, source.values)
    try:
        return _SETTINGS.validate_python(merged)
    except ValidationError as exc:
        raise ConfigError(_explain_first(exc, sources)) from exc


def usual_config_file() -> Path:
    """The settings file of a process that is given none: the one that EMBEDFLEET_CONFIG names, otherwise the
    user's own. The file may not exist."""
    return _named_file(os.environ) or _own_file()


def _file_to_read(environ: Mapping[str, str] | None) -> Path | None:
    """The usual file. A named one is read even if it does not exist, so that a wrong name is an error."""
    named = _named_file(os.environ if environ is None else environ)
    if named is not None:
        return named
    own = _own_file()
    return own if environ is None and os.path.lexists(own) else None


def _named_file(environ: Mapping[str, str]) -> Path | None:
    named = environ.get(CONFIG_ENV)
    return Path(named) if named else None


def _own_file() -> Path:
    folder = platformdirs.user_config_dir("embedfleet", appauthor=False)
    return Path(folder) / "embeddings_config.yaml"


@dataclass(frozen=True, slots=True)
class _Source:
    """Where values come from: a file's name, the prefix of environment variables, or the command line."""

    name: str
    values: Mapping[str, Any]

    def sets(self, path: list[str]) -> bool:
        below: Any = self.values
        for part in path:
            if not isinstance(below, Mapping) or part not in below:
                return False
            below = below[part]
        return True

    def place(self, path: list[str]) -> str:
        """The name of the source for a user: for the environment, the variable of this path."""
        return ENV_PREFIX + ENV_SEPARATOR.join(path).upper() if self.name == ENV_PREFIX else self.name


def _file(path: Path) -> _Source:
    return _Source(str(path), parse_sections(read_text(path), str(path)))


def _read_environment(environ: Mapping[str, str]) -> Mapping[str, Any]:
    nested: dict[str, Any] = {}
    for name, raw in environ.items():
        if not name.startswith(ENV_PREFIX) or name in _NO_SETTINGS:
            continue
        path = name.removeprefix(ENV_PREFIX).lower().split(ENV_SEPARATOR)
        value = (raw or None) if path == ["data_dir"] else parse(raw, name)
        for part in reversed(path[1:]):
            value = {part: value}
        _merge(nested, {path[0]: value})
    return nested


def _merge(into: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Merge `extra` into `into`, section by section. An empty section sets nothing."""
    for key, value in extra.items():
        below = into.get(key)
        if isinstance(value, Mapping):
            target = dict(below) if isinstance(below, Mapping) else {}
            _merge(target, value)
            into[key] = target
        elif value is not None or not isinstance(below, Mapping):
            into[key] = value


def _explain_first(exc: ValidationError, sources: Sequence[_Source]) -> str:
    problem = first_problem(exc)
    path = list(problem.path)
    places = [source.place(path) for source in reversed(sources) if source.sets(path)]
    return f"{places[0]}: {_explain(problem)}" if places else _explain(problem)


def _explain(problem: Problem) -> str:
    if problem.kind == "extra_forbidden":
        *section, key = problem.path
        return f"unknown setting `{problem.field}`: {hint(key, _known_keys(section))}"
    shown = f" (got {problem.given!r})" if isinstance(problem.given, str | int | float | bool) else ""
    return f"setting `{problem.field}`: {problem.message}{shown}"


def _section_of(annotation: Any) -> Any:
    """The section in a field's annotation: an optional section is annotated `Section | None`."""
    if typing.get_origin(annotation) is dict:
        return annotation
    return next((kind for kind in typing.get_args(annotation) if _is_section(kind)), annotation)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _known_keys(path: list[str]) -> list[str]:
    """The field names of the section at `path`."""
    section: Any = Settings
    for part in path:
        if typing.get_origin(section) is dict:  # `part` is a key that the user chose, such as a model's name
            section = typing.get_args(section)[1]
        elif _is_section(section):
            section = _section_of(section.model_fields[part].annotation)
    return list(section.model_fields) if _is_section(section) else []
