"""JSON and JSON lines: writes the names and values as lines of `name: value`, without quotes and brackets.

The layout works on tokens. So numbers keep their digits, repeated names stay, deep nesting needs no stack,
and a file that is not quite JSON (has comments, is cut off) still keeps all its text. Strings are unescaped:
a line break in a string is a line break in the text. A string that holds JSON itself is laid out in its
place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import BinaryIO

from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.text import whole_text

# Possessive: an unclosed string is one token, and not a search for its end from each quote in quadratic time.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}:,]|[^\s"\[\]{}:,]++', re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL
)
_MEANINGS = {"n": "\n", "r": "\r", "t": "\t", "b": "", "f": " ", '"': '"', "\\": "\\", "/": "/"}
_SURROGATES = range(0xD800, 0xE000)
# Indentation has a limit: without it, the layout of a deeply nested file would grow quadratically.
_INDENTS = ["  " * depth for depth in range(9)]
_ITEM_CHARS = 60
"""A list of words or numbers that are longer has a line for each item."""
_ITEMS_IN_LINE = 1000
_JSON_IN_STRING = re.compile(r"\s*(?:\{\s*\"|\[\s*[\[{\"])")
_MOST_NESTED = 3  # JSON in a string of JSON in a string; what is deeper is written as it is
_EMPTY = '""'
_WRITE_CHARS = 1 << 16


def read_json(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the values, with a blank line between two records. Holds the file's text in memory."""
    _Layout(draft.write).read(whole_text(stream, draft))
    return "text"


def lay_out(text: str, nested: int = 0) -> str:
    """Return JSON as lines of `name: value`. `nested`: in how many strings of JSON it stands."""
    pieces: list[str] = []
    _Layout(pieces.append, nested).read(text)
    return "".join(pieces)


def unescaped(string: str) -> str:
    """Return the content of a JSON string as text; what is no valid escape stays as it is."""
    if "\\" in string:
        string = _ESCAPE.sub(_meaning, string)
    return string.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _meaning(escape: re.Match[str]) -> str:
    high, low, unit, character = escape.groups()
    if high is not None:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))
    if unit is not None:
        code = int(unit, 16)
        return escape[0] if code in _SURROGATES else chr(code)
    return _MEANINGS.get(character, escape[0])


class _Container:
    """An object or a list that is open."""

    __slots__ = ("is_empty", "is_written", "items", "name", "opening")

    def __init__(self, opening: str, name: str | None) -> None:
        self.opening = opening
        self.name = name
        self.items: list[str] | None = [] if opening == "[" else None
        """The first items of a list, as long as they are short and may stand in one line."""
        self.is_empty = True
        self.is_written = False
        """Whether the line with its name is written."""


class _Layout:
    def __init__(self, write: Callable[[str], None], nested: int = 0) -> None:
        self._write = write
        self._nested = nested
        self._pieces: list[str] = []
        self._chars = 0
        self._open: list[_Container] = []
        self._names = 0
        """How many of the open containers have a name: the depth of the indentation."""
        self._first_unwritten = 0
        """All containers below this one have the line with their name written."""
        self._held: list[str] = []
        """The tokens of a name or of a value that is not complete."""
        self._name: str | None = None
        self._gap = ""
        """What must stand before the next line: a blank line between two records."""

    def read(self, text: str) -> None:
        """Write the whole text."""
        end = 0
        for match in _TOKEN.finditer(text):
            token = match[0]
            if self._held and not self._open and "\n" in text[end : match.start()]:
                self._value()  # the end of a line ends a value only outside of objects and lists
            end = match.end()
            if token == ":":
                self._take_name()
            elif token == ",":
                self._value()
            elif token in ("{", "["):
                self._begin(token)
            elif token in ("}", "]"):
                self._end()
            else:
                self._held.append(self._readable(token))
        self._value()
        self._end()  # the innermost list or object may wait for its end; those around it do not
        self._flush()

    def _readable(self, token: str) -> str:
        if token[0] != '"':
            return token
        closed = len(token) > 1 and token[-1] == '"'
        string = unescaped(token[1:-1] if closed else token[1:])
        if self._nested < _MOST_NESTED and _JSON_IN_STRING.match(string) and _is_json(string):
            return "\n" + lay_out(string, self._nested + 1).rstrip("\n")
        return string

    def _take_name(self) -> None:
        name = " ".join(" ".join(self._held).split())
        self._name = name if self._name is None else f"{self._name}: {name}"
        self._held.clear()

    def _begin(self, opening: str) -> None:
        if self._held:
            self._value()
        if self._open:
            self._spread_items(self._open[-1])
            if self._open[-1].opening == "[" and not self._open[-1].is_empty:
                self._gap = "\n" if opening == "{" else self._gap
            self._open[-1].is_empty = False
        self._names += self._name is not None
        self._open.append(_Container(opening, self._name))
        self._name = None

    def _end(self) -> None:
        self._value()
        if not self._open:
            return
        container = self._open[-1]
        if container.items:
            self._line_of_items(container)
        elif container.is_empty:
            self._empty(container)
        self._open.pop()
        self._names -= container.name is not None
        self._first_unwritten = min(self._first_unwritten, len(self._open))
        if not self._open:
            self._gap = "\n"

    def _empty(self, container: _Container) -> None:
        brackets = "{}" if container.opening == "{" else "[]"
        container.is_written = True
        self._line(brackets if container.name is None else f"{container.name}: {brackets}", named=container)

    def _value(self) -> None:
        """Write the value that has ended, if there is one."""
        if not self._held and self._name is None:
            return
        value = " ".join(self._held) or _EMPTY
        name, self._name = self._name, None
        self._held = []
        container = self._open[-1] if self._open else None
        if container is not None and container.items is not None and name is None:
            self._item(container, value)
            return
        if container is not None:
            container.is_empty = False
        space = "" if value[0] == "\n" else " "
        self._line(value if name is None else f"{name}:{space}{value}")
        if container is None:
            self._gap = "\n"

    def _item(self, container: _Container, value: str) -> None:
        """Take an item of a list that is a word or a number."""
        assert container.items is not None
        container.is_empty = False
        container.items.append(value)
        if len(value) > _ITEM_CHARS or "\n" in value or ", " in value:
            self._spread_items(container)
        elif len(container.items) == _ITEMS_IN_LINE:
            self._line_of_items(container)
            container.items = []

    def _spread_items(self, container: _Container) -> None:
        """Write each item that is held in a line of its own, and all later ones too."""
        items, container.items = container.items, None
        for item in items or ():
            self._line(item)

    def _line_of_items(self, container: _Container) -> None:
        items = ", ".join(container.items or ())
        if container.name is None or container.is_written:
            self._line(items)
        else:
            container.is_written = True
            self._line(f"{container.name}: {items}", named=container)

    def _line(self, line: str, named: _Container | None = None) -> None:
        """Write a line, and before it the lines of containers that have none yet. `named`: it is this one's
        own line, so it stands one step to the left."""
        gap, self._gap = self._gap, ""
        self._add(gap)
        depth = self._names
        if self._first_unwritten < len(self._open):
            waiting = self._open[self._first_unwritten :]
            depth -= sum(one.name is not None for one in waiting)
            for one in waiting:
                if one.name is not None:
                    if not one.is_written:
                        self._add(f"{self._indent(depth)}{one.name}:\n")
                        one.is_written = True
                    depth += 1
            self._first_unwritten = len(self._open)
        self._add(self._indent(depth - (named is not None and named.name is not None)) + line + "\n")

    def _indent(self, depth: int) -> str:
        return _INDENTS[max(0, min(depth, len(_INDENTS) - 1))]

    def _add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._chars += len(piece)
        if self._chars >= _WRITE_CHARS:
            self._flush()

    def _flush(self) -> None:
        self._write("".join(self._pieces))
        self._pieces.clear()
        self._chars = 0


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
