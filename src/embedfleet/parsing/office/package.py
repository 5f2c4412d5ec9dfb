"""The archive of an office document: its parts, and the relationships that lead from one to another."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.office.xml_part import BrokenPart, parse_part


@dataclass(frozen=True, slots=True)
class Relationship:
    """A link from a part: its kind (the last word of its type, such as "footnotes") and the part's name.

    `target` is None if it leads out of the document.
    """

    kind: str
    target: str | None


class Package:
    """Reads parts by name. Names are compared without regard to case, as Office does."""

    def __init__(self, archive: zipfile.ZipFile, draft: Draft) -> None:
        self._archive = archive
        self._draft = draft

    @cached_property
    def names(self) -> dict[str, str]:
        """The members of the archive, by their names in lower case without a leading slash."""
        return {
            name.replace("\\", "/").lstrip("/").lower(): name
            for name in self._archive.namelist()
            if not name.endswith("/")
        }

    def has(self, name: str) -> bool:
        return name.lower() in self.names

    def content(self, name: str) -> bytes:
        """Return the bytes of a part. Raises BrokenPart if it is missing or cannot be unpacked."""
        member = self.names.get(name.lower())
        if member is None:
            raise BrokenPart("it is not in the file")
        try:
            return self._archive.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
            raise BrokenPart(str(exc)) from exc

    def part(self, name: str) -> Element:
        """Return the root element of an XML part. Raises BrokenPart if there is none that can be read."""
        return parse_part(self.content(name))

    def part_if_whole(self, name: str | None, *, place: str) -> Element | None:
        """Return the root of a part, or None if it is missing or broken: then the account says so.

        `place`: what the part is to a user, such as "slide 3" or "footnotes".
        """
        try:
            if name is not None:
                return self.part(name)
            problem = "it is not in the file"
        except BrokenPart as exc:
            problem = str(exc)
        self._draft.note(Code.OFFICE_PART, chars=None, place=f"{place}: {problem}")
        return None

    def relationships(self, part: str) -> dict[str, Relationship]:
        """Return the links from a part by their ids; "" for those of the package."""
        folder, name = posixpath.split(part)
        try:
            root = self.part(posixpath.join(folder, "_rels", f"{name}.rels"))
        except BrokenPart:
            return {}
        found: dict[str, Relationship] = {}
        for link in root.iter("rel:Relationship"):
            outside = link.get("TargetMode", "").lower() == "external"
            target = None if outside else _resolved(folder, link.get("Target", ""))
            kind = link.get("Type", "").rsplit("/", maxsplit=1)[-1]
            found[link.get("Id", "")] = Relationship(kind, target)
        return found

    def related(self, part: str, kind: str) -> list[str]:
        """Return the names of the parts to which a part has links of this kind."""
        links = self.relationships(part).values()
        return [link.target for link in links if link.kind == kind and link.target]

    @cached_property
    def main_part(self) -> str | None:
        """The name of the part that has the document itself; None if the archive names none that it has.

        It is named by its relationship, not by convention: some programs call it `word/document2.xml`.
        """
        by_kind = self.related("", "officeDocument") + self.related("", "fixedrepresentation")
        candidates = (*by_kind, "word/document.xml", "xl/workbook.xml", "ppt/presentation.xml", "content.xml")
        return next((name for name in candidates if self.has(name)), None)

    @cached_property
    def title(self) -> str | None:
        """The title of the document's properties; None if it has none that a person gave it."""
        for name in (*self.related("", "core-properties"), "docProps/core.xml"):
            try:
                title = self.part(name).findtext("dc:title")
            except BrokenPart:
                continue
            return real_title(title)
        return None


# Titles that programs fill in by themselves, in lower case.
_EMPTY_TITLES = ("powerpoint presentation", "untitled", "presentation", "document", "no slide title")


def real_title(title: str | None) -> str | None:
    """Return a document's title in one line; None if it is blank or one that a program has filled in."""
    words = " ".join((title or "").split())
    is_empty = not words or words.lower().rstrip("0123456789 ") in _EMPTY_TITLES
    return None if is_empty or words.lower().startswith("microsoft word - ") else words


def _resolved(folder: str, target: str) -> str:
    path = unquote(target.split("#", maxsplit=1)[0]).replace("\\", "/")
    return posixpath.normpath(path if path.startswith("/") else posixpath.join(folder, path)).lstrip("/")
