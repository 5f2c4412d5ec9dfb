"""Reads YAML. An error is one line, and never quotes the text, because that may hold a password."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from embedfleet.errors import ConfigError


def read_text(path: Path) -> str:
    """The file's text with its own line ends. Raises ConfigError if the file cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: not valid YAML (byte {exc.start} is not UTF-8)") from exc


def parse(text: str, place: str) -> Any:
    """The content of the YAML text. Raises ConfigError, whose message begins with `place`."""
    with _errors(place):
        return yaml.safe_load(text)


def parse_sections(text: str, place: str) -> Mapping[str, Any]:
    """The sections of the text of a settings file; none if it is empty. Raises as `parse` does."""
    content = parse(text, place)
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place}: must hold sections such as `chunking:`, not a {type(content).__name__}")
    return content


def parse_nodes(text: str, place: str) -> yaml.Node | None:
    """The nodes of the YAML text, with their positions in it. Raises as `parse` does."""
    with _errors(place):
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        return node


@contextmanager
def _errors(place: str) -> Iterator[None]:
    try:
        yield
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "unreadable"
        raise ConfigError(f"{place}: not valid YAML ({line}{problem})") from None
    except RecursionError:
        raise ConfigError(f"{place}: not valid settings (nested too deeply)") from None
