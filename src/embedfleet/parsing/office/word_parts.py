"""What the body of a Word document refers to: styles, lists, notes, comments, and other parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from xml.etree.ElementTree import Element

from embedfleet.parsing.draft import Draft
from embedfleet.parsing.office.package import Package, Relationship
from embedfleet.parsing.office.word_numbering import Numbering
from embedfleet.parsing.office.word_styles import Styles

# Notes of these types are the lines that Word draws above notes. Every other note is one, whatever its id.
_LINES = frozenset({"separator", "continuationSeparator", "continuationNotice"})


@dataclass(frozen=True, slots=True)
class Notes:
    """The footnotes or the endnotes of a document, by their ids. `prefix` begins their labels."""

    kind: str
    prefix: str
    by_id: dict[str, Element]

    def label(self, note_id: str) -> str:
        return self.prefix + note_id


class WordParts:
    """Finds the parts of one document, and reads each when it is first needed."""

    def __init__(self, package: Package, main_part: str, draft: Draft) -> None:
        self.package = package
        self.draft = draft
        self._main_part = main_part

    @cached_property
    def relationships(self) -> dict[str, Relationship]:
        return self.package.relationships(self._main_part)

    @cached_property
    def styles(self) -> Styles:
        return Styles(self._related("styles"))

    @cached_property
    def numbering(self) -> Numbering:
        return Numbering(self._related("numbering"), self.styles)

    @cached_property
    def footnotes(self) -> Notes:
        return Notes("footnote", "", self._notes("footnotes", "w:footnote"))

    @cached_property
    def endnotes(self) -> Notes:
        # Both kinds are counted from 1, so a document with both needs other labels for one.
        prefix = "e" if self.footnotes.by_id else ""
        return Notes("endnote", prefix, self._notes("endnotes", "w:endnote"))

    @cached_property
    def comments(self) -> dict[str, Element]:
        root = self._related("comments")
        return {} if root is None else {one.get("w:id", ""): one for one in root.iter("w:comment")}

    def roots(self, kind: str) -> list[Element]:
        """Return the roots of all parts to which the document has links of a kind, such as "header"."""
        names = [link.target for link in self.relationships.values() if link.kind == kind and link.target]
        parts = (self.package.part_if_whole(name, place=kind) for name in dict.fromkeys(names))
        return [root for root in parts if root is not None]

    def _related(self, kind: str) -> Element | None:
        return next(iter(self.roots(kind)), None)

    def _notes(self, kind: str, tag: str) -> dict[str, Element]:
        root = self._related(kind)
        notes = [] if root is None else [one for one in root.iter(tag) if one.get("w:type") not in _LINES]
        return {one.get("w:id", ""): one for one in notes}
