"""The styles of an OpenDocument file: what is hidden, raised, a title, and how lists are numbered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from embedfleet.parsing.office.numerals import letter, roman
from embedfleet.parsing.office.scripts import Script
from embedfleet.parsing.office.word_styles import whole_number

LEVELS = 10
"""Lists have ten levels."""
BULLET = "-"


@dataclass(frozen=True, slots=True)
class ListLevel:
    """How a level of a list counts; `format` is None for bullets, "" for no label."""

    format: str | None = None
    prefix: str = ""
    suffix: str = ""
    start: int = 1
    shown_levels: int = 1


class OpenStyles:
    """Looks styles up by family and name, with what they inherit."""

    def __init__(self, roots: list[Element]) -> None:
        self._styles: dict[tuple[str, str], Element] = {}
        self._lists: dict[str, dict[int, ListLevel]] = {}
        self.outline: dict[int, ListLevel] = {}
        for root in roots:
            for style in root.iter("style:style"):
                self._styles[style.get("style:family", ""), style.get("style:name", "")] = style
            for style in root.iter("text:list-style"):
                self._lists[style.get("style:name", "")] = dict(_levels(style))
            for style in root.iter("text:outline-style"):
                self.outline = dict(_levels(style))

    def list_levels(self, name: str | None) -> dict[int, ListLevel]:
        """Return the levels, from 0, of a list style; none if it is not defined."""
        return self._lists.get(name or "", {})

    def is_title(self, name: str | None) -> bool:
        return any(one.get("style:name") == "Title" for one in self._inherited("paragraph", name))

    def is_code(self, name: str | None) -> bool:
        """Whether a paragraph's style is that of listings of code."""
        names = (one.get("style:name", "") for one in self._inherited("paragraph", name))
        return any(one in ("Preformatted_20_Text", "Source_20_Code", "Code") for one in names)

    def is_hidden(self, family: str, name: str | None) -> bool:
        """Whether text, a sheet or a slide of the style is not shown."""
        switches = (
            ("style:text-properties", "text:display", "none"),
            ("style:table-properties", "table:display", "false"),
            ("style:drawing-page-properties", "presentation:visibility", "hidden"),
        )
        return any(self._property(family, name, tag, attribute) == off for tag, attribute, off in switches)

    def script(self, name: str | None) -> Script:
        """Return how a style of text sets its characters."""
        struck = self._property("text", name, "style:text-properties", "style:text-line-through-style")
        if struck not in (None, "none"):
            return "struck"
        position = self._property("text", name, "style:text-properties", "style:text-position") or ""
        first = position.split()[0] if position.split() else ""
        if first == "super" or (first.rstrip("%").isdecimal() and first.strip("0%")):
            return "above"
        return "below" if first == "sub" or first.startswith("-") else ""

    def _property(self, family: str, name: str | None, tag: str, attribute: str) -> str | None:
        for style in self._inherited(family, name):
            properties = style.find(tag)
            value = None if properties is None else properties.get(attribute)
            if value is not None:
                return value
        return None

    def _inherited(self, family: str, name: str | None) -> Iterator[Element]:
        seen: set[str] = set()
        while name is not None and name not in seen:
            seen.add(name)
            style = self._styles.get((family, name))
            if style is None:
                return
            yield style
            name = style.get("style:parent-style-name")


def _levels(style: Element) -> Iterator[tuple[int, ListLevel]]:
    for level in style:
        place = whole_number(level.get("text:level"), default=0) - 1
        if 0 <= place < LEVELS:
            numbered = level.tag in ("text:list-level-style-number", "text:outline-level-style")
            yield (
                place,
                ListLevel(
                    level.get("style:num-format", "") if numbered else None,
                    level.get("style:num-prefix", ""),
                    level.get("style:num-suffix", ""),
                    whole_number(level.get("text:start-value"), default=1),
                    whole_number(level.get("text:display-levels"), default=1),
                ),
            )


def label(levels: dict[int, ListLevel], counts: dict[int, int], place: int) -> str:
    """Return what stands before an item of a level: "1.2.", "b)", "-"; "" if nothing does."""
    level = levels.get(place, ListLevel())
    if level.format is None:
        return BULLET
    if not level.format:
        return ""
    first = max(0, place + 1 - level.shown_levels)
    numbers = [_number(counts.get(i, 1), levels.get(i, level).format) for i in range(first, place + 1)]
    return f"{level.prefix}{'.'.join(filter(None, numbers))}{level.suffix}".strip()


def _number(number: int, form: str | None) -> str:
    match form:
        case "a":
            return letter(number)
        case "A":
            return letter(number).upper()
        case "i":
            return roman(number)
        case "I":
            return roman(number).upper()
        case "" | None:
            return ""
        case _:
            return str(number)
