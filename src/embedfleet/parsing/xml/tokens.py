"""Cuts XML, and HTML in XML, into tags and text.

It takes what no XML parser takes: unescaped signs, tags that are not closed, a file that is cut off. It reads
nothing from outside the file, and no entity is replaced inside of another one, so a text cannot explode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from html.entities import html5


class Kind(Enum):
    """What a token is."""

    TEXT = 0
    """`value` is text in which entities are not replaced yet."""
    DATA = 1
    """`value` is text as it is."""
    OPEN = 2
    """`value` is the element's name without its prefix, `attributes` what stands behind it."""
    EMPTY = 3
    """As OPEN; the element ends at once."""
    CLOSE = 4
    COMMENT = 5
    DOCTYPE = 6


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    value: str
    attributes: str = ""


# A value has no `<`, so a quote that nothing closes ends at the next tag.
_TAG = re.compile(r"<(/?)([A-Za-z_][\w.\-]*:)?([A-Za-z_][\w.\-]*)((?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+)>")
_ATTRIBUTE = re.compile(r"([\w.\-]+:)?([\w.\-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_DOCTYPE = re.compile(r"<!DOCTYPE[^<>\[]*(?:\[|>)", re.IGNORECASE)
_END_OF_SUBSET = re.compile(r"\]\s*>")
_DECLARED = re.compile(r"<!ENTITY\s+([\w.\-]+)\s+(SYSTEM|PUBLIC|\"([^\"]*)\"|'([^']*)')")
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z_][\w.\-]{0,60}));")
_LONGEST_ENTITY = 10_000
_MOST_REPLACED = 1_000_000
"""How many characters the entities of one file may add: a hostile file has many uses of a long one."""


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the tokens of a text, in order."""
    at = 0
    unclosed: set[str] = set()
    while (sign := text.find("<", at)) >= 0:
        if sign > at:
            yield Token(Kind.TEXT, text[at:sign])
        token, at = _markup(text, sign, unclosed)
        if token is not None:
            yield token
    if at < len(text):
        yield Token(Kind.TEXT, text[at:])


_ENCLOSED: tuple[tuple[str, str, Kind | None], ...] = (
    ("<!--", "-->", Kind.COMMENT),
    ("<![CDATA[", "]]>", Kind.DATA),
    ("<?", "?>", None),
)


def _markup(text: str, at: int, unclosed: set[str]) -> tuple[Token | None, int]:
    """The token that begins with a `<`, and where the next one begins."""
    if tag := _TAG.match(text, at):
        behind = tag[4]
        empty = behind.endswith("/")
        kind = Kind.CLOSE if tag[1] else Kind.EMPTY if empty else Kind.OPEN
        return Token(kind, tag[3], behind.removesuffix("/")), tag.end()
    for opening, closing, enclosed in _ENCLOSED:
        if text.startswith(opening, at) and closing not in unclosed:
            end = text.find(closing, at + len(opening))
            if end >= 0:
                value = text[at + len(opening) : end]
                return (None if enclosed is None else Token(enclosed, value)), end + len(closing)
            unclosed.add(closing)
    if doctype := _DOCTYPE.match(text, at):
        end = doctype.end()
        if doctype[0][-1] == "[" and (closed := _END_OF_SUBSET.search(text, end)):
            end = closed.end()
        return Token(Kind.DOCTYPE, text[at:end]), end
    return Token(Kind.DATA, "<"), at + 1


def attributes_of(behind: str, entities: Entities) -> list[tuple[str, str]]:
    """Return the attributes of a tag by their names, without those that name spaces and schemas."""
    return [
        (found[2], entities.replaced(found[3] if found[3] is not None else found[4]))
        for found in _ATTRIBUTE.finditer(behind)
        if found[1] not in ("xmlns:", "xml:", "xsi:") and found[2] != "xmlns"
    ]


class Entities:
    """Replaces entities by their characters. `missing` has the names of those that another file has."""

    def __init__(self) -> None:
        self._declared: dict[str, str] = {}
        self._external: set[str] = set()
        self._added = 0
        self.missing: list[str] = []

    def declare(self, doctype: str) -> None:
        """Take the entities that a document type declares."""
        for found in _DECLARED.finditer(doctype):
            value = found[3] if found[3] is not None else found[4]
            if value is None:
                self._external.add(found[1])
            elif len(value) <= _LONGEST_ENTITY:
                self._declared[found[1]] = value

    def replaced(self, text: str) -> str:
        """Return the text with its entities replaced; an unknown one stays as it is written."""
        return _ENTITY.sub(self._character, text) if "&" in text else text

    def _character(self, entity: re.Match[str]) -> str:
        decimal, hexadecimal, name = entity.groups()
        if name is None:
            code = int(decimal) if decimal is not None else int(hexadecimal, 16)
            valid = 0 < code < 0x110000 and not 0xD800 <= code < 0xE000
            return chr(code) if valid else entity[0]
        if name in self._external:
            self.missing.append(name)
            return ""
        if name in self._declared and self._added < _MOST_REPLACED:
            self._added += len(self._declared[name])
            return self._declared[name]
        return html5.get(f"{name};", entity[0])
