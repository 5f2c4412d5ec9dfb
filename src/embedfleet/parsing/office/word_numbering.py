"""The numbers and bullets that Word shows before the items of its lists and before numbered headings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element

from embedfleet.parsing.office.numerals import letter, ordinal, roman
from embedfleet.parsing.office.word_styles import Styles, whole_number
from embedfleet.parsing.office.xml_part import is_on

LEVELS = 9
"""Lists have nine levels."""
BULLET = "-"

_FORMATS: dict[str, Callable[[int], str]] = {
    "decimalZero": lambda number: f"{number:02}",
    "upperRoman": lambda number: roman(number).upper(),
    "lowerRoman": roman,
    "upperLetter": lambda number: letter(number).upper(),
    "lowerLetter": letter,
    "ordinal": ordinal,
    "none": lambda number: "",
}


@dataclass(frozen=True, slots=True)
class _Level:
    """How a level counts: `pattern` is its label, in which `%1` stands for the number of the first level."""

    format: str = "decimal"
    pattern: str = ""
    start: int = 1
    only_digits: bool = False


class Numbering:
    """Counts the items of every list. Ask for the labels in the order of the document."""

    def __init__(self, root: Element | None, styles: Styles) -> None:
        self._styles = styles
        self._abstract = {} if root is None else _by_id(root, "w:abstractNum", "w:abstractNumId")
        self._lists = {} if root is None else _by_id(root, "w:num", "w:numId")
        self._levels: dict[str, tuple[str, list[_Level]]] = {}
        self._counts: dict[str, list[int | None]] = {}
        self._begun: set[str] = set()

    def label(self, list_id: str, level: int) -> str | None:
        """Count an item, and return what Word shows before it: "1.2.", "b)", "-"; None: it is in no list."""
        if list_id not in self._lists or not 0 <= level < LEVELS:
            return None
        abstract_id, levels = self._levels_of(list_id)
        counts = self._counts.setdefault(abstract_id, [None] * LEVELS)
        if list_id not in self._begun:
            self._begun.add(list_id)
            for restarted in self._restarted(list_id):
                counts[restarted] = None
        current = counts[level]
        counts[level] = levels[level].start if current is None else current + 1
        counts[level + 1 :] = [None] * (LEVELS - level - 1)
        return _label(levels, counts, level)

    def _levels_of(self, list_id: str) -> tuple[str, list[_Level]]:
        """Return the definition that the list shares with others, and its levels."""
        if list_id not in self._levels:
            element = self._lists[list_id]
            abstract_id = self._abstract_id(element)
            levels = [_Level()] * LEVELS
            _read_levels(self._abstract.get(abstract_id), levels)
            for override in element.findall("w:lvlOverride"):
                _read_levels(override, levels)
                start, place = override.find("w:startOverride"), _place(override)
                if start is not None and place is not None:
                    first = whole_number(start.get("w:val"), default=1)
                    levels[place] = replace(levels[place], start=first)
            self._levels[list_id] = (abstract_id, levels)
        return self._levels[list_id]

    def _abstract_id(self, element: Element) -> str:
        """Return the id of a list's definition, which may be that of the list of a style."""
        abstract_id = _value(element, "w:abstractNumId")
        definition = self._abstract.get(abstract_id)
        style = None if definition is None else definition.find("w:numStyleLink")
        if style is None:
            return abstract_id
        for said in self._styles.numbered(style.get("w:val")):
            if said.list_id in self._lists:
                return _value(self._lists[said.list_id], "w:abstractNumId")
        return abstract_id

    def _restarted(self, list_id: str) -> list[int]:
        overrides = self._lists[list_id].findall("w:lvlOverride")
        places = [_place(one) for one in overrides if one.find("w:startOverride") is not None]
        return [place for place in places if place is not None]


def _by_id(root: Element, tag: str, id_name: str) -> dict[str, Element]:
    return {element.get(id_name, ""): element for element in root.findall(tag)}


def _value(element: Element, tag: str, default: str = "") -> str:
    found = element.find(tag)
    return default if found is None else found.get("w:val", default)


def _place(element: Element) -> int | None:
    place = whole_number(element.get("w:ilvl"), default=LEVELS)
    return place if place < LEVELS else None


def _read_levels(definition: Element | None, levels: list[_Level]) -> None:
    for element in [] if definition is None else definition.findall("w:lvl"):
        if (place := _place(element)) is not None:
            levels[place] = _Level(
                _value(element, "w:numFmt", "decimal"),
                _value(element, "w:lvlText"),
                whole_number(_value(element, "w:start", "1"), default=1),
                is_on(element.find("w:isLgl")),
            )


def _label(levels: list[_Level], counts: list[int | None], level: int) -> str:
    own = levels[level]
    if own.format == "bullet":
        return BULLET

    def number_of(match: re.Match[str]) -> str:
        place = int(match[1]) - 1
        count = counts[place]
        number = levels[place].start if count is None else count
        as_written = str if own.only_digits else _FORMATS.get(levels[place].format, str)
        return as_written(number)

    return re.sub(r"%([1-9])", number_of, own.pattern).strip()
