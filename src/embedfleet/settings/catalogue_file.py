"""The catalogue of a settings file, changed in its text: what people wrote around an entry stays as it was.

Libraries that write YAML anew move comments, or drop them with the entry they follow. So only the lines of
the entry itself are touched, where the parser says that they are. What comes out is read again, and must say
what it said before but for that entry: a file written in a way not foreseen here is refused, never spoilt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_IMODE
from typing import Any
from uuid import uuid4

import yaml

from embedfleet.errors import ConfigError
from embedfleet.settings.yaml_text import parse, parse_nodes, parse_sections, read_text

_WHERE = ("models", "catalogue")
_STEP = 2

_Pair = tuple[yaml.Node, yaml.Node]


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """A settings file as it was read; its `text` is empty where there is no file yet."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> CatalogueFile:
        """Raises ConfigError if the file is there and cannot be read, or holds no catalogue of entries."""
        file = cls(path, read_text(path) if os.path.exists(path) else "")
        file.entries()
        return file

    def entries(self) -> Mapping[str, Any]:
        """By name, as written."""
        section = parse_sections(self.text, str(self.path))
        for part in _WHERE:
            below = section.get(part) or {}
            if not isinstance(below, Mapping):
                raise ConfigError(f"{self.path}: `{part}` must hold entries, not a {type(below).__name__}")
            section = below
        return section

    def with_entry(self, name: str, entry: Mapping[str, Any]) -> CatalogueFile:
        """With this entry at the end of the catalogue, or in the place of the one of that name.

        Raises ConfigError if the file is written in a way that cannot be added to.
        """
        found = self._find(name)
        if len(found) > len(_WHERE):
            text = self._replaced(found[-1], lines_of({name: entry}, _column(found[-1][0])))
        else:
            text = self._added(found, name, entry)
        return self._checked(text, {**self.entries(), name: dict(entry)})

    def without_entry(self, name: str) -> CatalogueFile:
        """Without the lines of this entry, which must be there. Raises ConfigError as `with_entry` does."""
        text = self._replaced(self._find(name)[-1], "")
        return self._checked(text, {key: value for key, value in self.entries().items() if key != name})

    def save(self, before: CatalogueFile) -> None:
        """Put it in the place of `before` in one step, with the mode and the owner that the file has.

        Raises ConfigError if it cannot be written, or the file is not as `before` any more.
        """
        target = self.path.resolve()  # of a link the file it points to
        fresh = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_like(target, fresh, self.text)
                if CatalogueFile.read(self.path).text != before.text:
                    raise ConfigError(f"{self.path}: somebody else changed it meanwhile: try again")
                fresh.replace(target)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as exc:
            raise ConfigError(f"{self.path}: cannot be written ({exc.strerror or exc})") from exc

    def _find(self, name: str) -> list[_Pair]:
        """The keys and values on the way to the entry, as far as they are there."""
        found: list[_Pair] = []
        node = parse_nodes(self.text, str(self.path))
        for part in (*_WHERE, name):
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            pair = next((pair for pair in reversed(pairs) if pair[0].value == part), None)
            if pair is None:
                break
            found.append(pair)
            node = pair[1]
        return found

    def _replaced(self, pair: _Pair, lines: str) -> str:
        """The whole lines from the key to the last of its value changed to these."""
        start = self.text.rfind("\n", 0, pair[0].start_mark.index) + 1
        return self.text[:start] + self._ending(lines) + self.text[self._line_after(_end(pair)) :]

    def _added(self, found: list[_Pair], name: str, entry: Mapping[str, Any]) -> str:
        new: Mapping[str, Any] = {name: entry}
        for part in reversed(_WHERE[len(found) :]):
            new = {part: new}
        root = parse_nodes(self.text, str(self.path))
        holder = found[-1][1] if found else root
        if isinstance(holder, yaml.MappingNode) and holder.value and not holder.flow_style:
            return self._inserted(self._line_after(_end(holder.value[-1])), new, _column(holder.value[0][0]))
        if not found:  # nothing but comments
            return self._inserted(len(self.text), new, 0)
        key, value = found[-1]
        if isinstance(value, yaml.CollectionNode) and value.value:
            raise ConfigError(
                f"{self.path}: `{key.value}` is written in braces: give each of its entries a line of its own"
            )
        # `{}` or nothing at all: the entry comes below the key instead.
        emptied = self.text[: value.start_mark.index].rstrip(" ") + self.text[value.end_mark.index :]
        below = replace(self, text=emptied)
        return below._inserted(below._line_after(key.end_mark.index), new, _column(key) + _STEP)

    def _inserted(self, at: int, new: Mapping[str, Any], column: int) -> str:
        before = self.text[:at]
        if before and not before.endswith("\n"):
            before += self._ending("\n")
        return before + self._ending(lines_of(new, column)) + self.text[at:]

    def _line_after(self, index: int) -> int:
        """Where the line begins that follows the one of this index; a block of text ends on a new line."""
        if index and self.text[index - 1] == "\n":
            return index
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end + 1

    def _ending(self, lines: str) -> str:
        """With the line ends of the file."""
        return lines.replace("\n", "\r\n") if "\r\n" in self.text else lines

    def _checked(self, text: str, entries: Mapping[str, Any]) -> CatalogueFile:
        changed = replace(self, text=text)
        try:
            good = _with_entries(parse(self.text, ""), entries) == _with_entries(
                parse(text, ""), changed.entries()
            )
        except ConfigError:
            good = False
        if not good:
            raise ConfigError(f"{self.path}: its catalogue is written in a way that only a person can change")
        return changed


def lines_of(content: Mapping[str, Any], column: int) -> str:
    """As YAML in block style, indented by so many columns."""
    text = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
    )
    return "".join(f"{' ' * column}{line}\n" for line in text.splitlines())


class _Dumper(yaml.SafeDumper):
    """Each value on the line of its key: lists of plain values in brackets, texts never broken."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)


def _end(pair: _Pair) -> int:
    """After the last character of the value: the end that the parser gives a block lies beyond the comments
    that follow it."""
    key, value = pair
    if isinstance(value, yaml.CollectionNode) and not value.flow_style and value.value:
        last = value.value[-1]
        inner = last if isinstance(last, tuple) else (key, last)
        return max(key.end_mark.index, _end(inner))
    # An alias stands where its anchor is, which may be far above.
    return max(key.end_mark.index, value.end_mark.index)


def _column(key: yaml.Node) -> int:
    return int(key.start_mark.column)


def _with_entries(content: Any, entries: Mapping[str, Any]) -> str:
    """All that a file says, comparable, with these entries as its catalogue."""
    sections = {**(content or {})}
    models = {**(sections.get(_WHERE[0]) or {}), _WHERE[1]: dict(entries)}
    return json.dumps({**sections, _WHERE[0]: models}, sort_keys=True, default=repr)


def _write_like(target: Path, fresh: Path, text: str) -> None:
    with fresh.open("x", encoding="utf-8", newline="") as stream:
        if target.exists():
            like, made = target.stat(), os.fstat(stream.fileno())
            fresh.chmod(S_IMODE(like.st_mode))
            if (like.st_uid, like.st_gid) != (made.st_uid, made.st_gid):
                os.chown(fresh, like.st_uid, like.st_gid)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
