"""Collects settings and warnings while a file of tldw is translated, by rules: one for each of its keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedfleet.tldw.models import NamedModel


@dataclass(frozen=True, slots=True)
class Translation:
    """embedfleet's settings, nested as in its YAML file, and a line for each key that does not go over.

    `reader_model` is the default model as tldw names it: the provider and the name. None: it names none.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    reader_model: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class SettingPath:
    """Where a value goes in the settings, and what makes it of the value in the file; None: it stays."""

    to: str
    as_what: Callable[[Any], Any] | None = None


class Draft:
    """Settings and warnings as they are found."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.reader_model: tuple[str, str] | None = None

    @property
    def translation(self) -> Translation:
        return Translation(self.settings, tuple(self.warnings), self.reader_model)

    def put(self, path: str, value: Any) -> None:
        """Set the value at this path, whose parts are divided by dots."""
        *sections, name = path.split(".")
        below = self.settings
        for section in sections:
            below = below.setdefault(section, {})
        below[name] = value

    def get(self, path: str) -> Any:
        """Return the value at this path; None if there is none."""
        below: Any = self.settings
        for part in path.split("."):
            below = below.get(part) if isinstance(below, Mapping) else None
        return below

    def warn(self, key: str, why: str) -> None:
        """Say of a key, by its path in tldw's file, why it does not go over."""
        self.warnings.append(f"`{key}`: {why}")

    def each(self, key: str, values: Any, rules: Mapping[str, Rule]) -> None:
        """Apply the rules to each value of a section."""
        if not isinstance(values, Mapping):
            self.warn(key, "is no section")
            return
        for name, value in values.items():
            self.one(f"{key}.{name}", str(name), value, rules)

    def one(self, key: str, name: str, value: Any, rules: Mapping[str, Rule]) -> None:
        """Apply the rule of this name. A value that its type does not take does not go over either."""
        rule = rules.get(name, "embedfleet has no such setting")
        try:
            match rule:
                case str():
                    self.warn(key, rule)
                case SettingPath():
                    self.put(rule.to, value if rule.as_what is None else rule.as_what(value))
                case _:
                    rule(self, key, value)
        except (TypeError, ValueError):
            self.warn(key, "its value cannot be read")

    def add_model(self, model: NamedModel, *, default: bool) -> None:
        """Add the model to the catalogue, if it is not built in; with `default`, make it the default.

        The names in a catalogue may have dots, so the entry is not set by its path.
        """
        if model.entry is not None:
            catalogue = self.settings.setdefault("models", {}).setdefault("catalogue", {})
            catalogue[model.name] = model.entry
        self.warnings.extend(one for one in model.warnings if one not in self.warnings)
        if default and model.known:
            self.put("models.default", model.name)


Rule = str | SettingPath | Callable[[Draft, str, Any], None]
"""A reason why a key has no counterpart, a path to set, or a function of the draft, the key and the value."""


def translate_metrics_port(draft: Draft, _key: str, port: Any) -> None:
    """Set the port. One that was switched off stays so, in whichever order the two keys are written."""
    if draft.get("monitoring.metrics_port") != 0:
        draft.put("monitoring.metrics_port", int(port))


def translate_metrics_switch(draft: Draft, _key: str, enabled: Any) -> None:
    """Switch the port off, if that is wanted."""
    if not enabled:
        draft.put("monitoring.metrics_port", 0)
