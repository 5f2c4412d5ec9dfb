"""Changes an entry in the catalogue of a settings file, and keeps the rest of the file's text as it is.

Libraries that write a whole YAML file move comments, or drop them with the entry before them. So this module
changes only the lines of the entry itself, whose place the parser tells. It then reads the new text again and
compares: apart from the entry, the content must be the same. A file that is written in a way not foreseen
here is refused, never damaged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_IMODE
from typing import Any

import yaml

from embedfleet.errors import ConfigError
from embedfleet.settings.yaml_text import parse, parse_nodes, parse_sections, read_text
from embedfleet.whole_file import written_whole

_WHERE = ("models", "catalogue")
_STEP = 2

_Pair = tuple[yaml.Node, yaml.Node]


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """The text of a settings file as it was read; empty if there is no file yet."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> CatalogueFile:
        """Read the file. Raises ConfigError if it cannot be read, or its catalogue does not hold entries."""
        file = cls(path, read_text(path) if os.path.exists(path) else "")
        file.entries()
        return file

    def entries(self) -> Mapping[str, Any]:
        """The entries by name, as they are written."""
        section = parse_sections(self.text, str(self.path))
        for part in _WHERE:
            below = section.get(part) or {}
            if not isinstance(below, Mapping):
                raise ConfigError(f"{self.path}: `{part}` must hold entries, not a {type(below).__name__}")
            section = below
        return section

    def with_entry(self, name: str, entry: Mapping[str, Any]) -> CatalogueFile:
        """The file with this entry at the end of its catalogue, or in place of the entry of this name.

        Raises ConfigError if the file is written in a way that this cannot add to.
        """
        found = self._find(name)
        if len(found) > len(_WHERE):
            text = self._replaced(found[-1], lines_of({name: entry}, _column(found[-1][0])))
        else:
            text = self._added(found, name, entry)
        return self._checked(text, {**self.entries(), name: dict(entry)})

    def without_entry(self, name: str) -> CatalogueFile:
        """The file without the lines of this entry, which exists. Raises ConfigError as `with_entry` does."""
        text = self._replaced(self._find(name)[-1], "")
        return self._checked(text, {key: value for key, value in self.entries().items() if key != name})

    def save(self, before: CatalogueFile) -> None:
        """Replace the file by this text in one step, and keep its mode and its owner.

        Raises ConfigError if it cannot be written, or if the file is no longer as `before` says.
        """
        target = self.path.resolve()  # for a link, the file that it points to
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as fresh:
                _write_like(target, fresh, self.text)
                # Immediately before the replacement, so that a change by another program is not lost.
                if CatalogueFile.read(self.path).text != before.text:
                    raise ConfigError(f"{self.path}: another program has changed it: try again")
        except OSError as exc:
            raise ConfigError(f"{self.path}: cannot be written ({exc.strerror or exc})") from exc

    def _find(self, name: str) -> list[_Pair]:
        """The keys and values on the path to the entry, as far as they exist."""
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
        """The text with these lines instead of those from the key to the end of its value."""
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
        # The value is `{}` or empty: the entry goes below the key instead.
        emptied = self.text[: value.start_mark.index].rstrip(" ") + self.text[value.end_mark.index :]
        below = replace(self, text=emptied)
        return below._inserted(below._line_after(key.end_mark.index), new, _column(key) + _STEP)

    def _inserted(self, at: int, new: Mapping[str, Any], column: int) -> str:
        before = self.text[:at]
        if before and not before.endswith("\n"):
            before += self._ending("\n")
        return before + self._ending(lines_of(new, column)) + self.text[at:]

    def _line_after(self, index: int) -> int:
        """The index at which the next line begins. It is `index` itself if a line begins there."""
        if index and self.text[index - 1] == "\n":
            return index
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end + 1

    def _ending(self, lines: str) -> str:
        """The lines with the line ends of the file."""
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
    """The content as YAML in block style, indented by `column` columns."""
    text = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
    )
    return "".join(f"{' ' * column}{line}\n" for line in text.splitlines())


class _Dumper(yaml.SafeDumper):
    """Writes each value on the line of its key: a list in brackets, a text on one line."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)


def _end(pair: _Pair) -> int:
    """The index after the last character of the value.

    The parser's own end of a block cannot be used, because it is behind the comments that follow the block.
    """
    key, value = pair
    if isinstance(value, yaml.CollectionNode) and not value.flow_style and value.value:
        last = value.value[-1]
        inner = last if isinstance(last, tuple) else (key, last)
        return max(key.end_mark.index, _end(inner))
    # The node of an alias has the position of its anchor, which may be far above the key.
    return max(key.end_mark.index, value.end_mark.index)


def _column(key: yaml.Node) -> int:
    return int(key.start_mark.column)


def _with_entries(content: Any, entries: Mapping[str, Any]) -> str:
    """The whole content of a file in a form that can be compared, with these entries as its catalogue."""
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
