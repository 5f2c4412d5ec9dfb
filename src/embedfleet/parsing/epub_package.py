"""What an EPUB archive says of its book: title, chapters in reading order, and which are protected."""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote
from xml.etree import ElementTree

from embedfleet.errors import ParseError

CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_RIGHTS = ("META-INF/rights.xml", "META-INF/sinf.xml", "META-INF/license.lcpl")
"""Files with the licence of a protected book: Adobe, Apple, Readium."""

# Fonts are often made unreadable for other programs. That protects no text.
_FONT_OBFUSCATION = frozenset(("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"))
_PAGE_TYPES = frozenset(
    ("application/xhtml+xml", "text/html", "text/x-oeb1-document", "application/xml", "text/xml", "")
)
_PAGE_SUFFIXES = (".xhtml", ".html", ".htm", ".xht")
_NUMBER = re.compile(r"(\d+)")

MEMBER_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)
"""What `zipfile` raises if a member is damaged, or packed or encrypted in a way that it does not know."""


class ChapterKind(Enum):
    """What a page of the book is: text, or only links to the text."""

    TEXT = "text"
    CONTENTS = "contents"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A page of the book. `size`: that of its member of the archive in bytes; None if there is no such."""

    name: str
    size: int | None
    is_protected: bool = False
    kind: ChapterKind = ChapterKind.TEXT


@dataclass(frozen=True, slots=True)
class Book:
    """A book: its title, and its chapters in reading order.

    `has_rights`: it comes with a licence, so what cannot be read of it is protected. `is_in_doubt`: the order
    of the chapters is a guess.
    """

    title: str | None
    chapters: tuple[Chapter, ...]
    has_rights: bool
    is_in_doubt: bool = False


def open_book(archive: zipfile.ZipFile) -> Book:
    """Return what the archive says of its book. Raises ParseError if it has no page."""
    members = _Members(archive)
    has_rights = any(name in members.sizes for name in _RIGHTS)
    package = _package(members)
    if package is not None:
        chapters = tuple(_chapters(package, members))
        if chapters:
            return Book(_title(package.root), chapters, has_rights)
    pages = sorted((name for name in members.sizes if name.lower().endswith(_PAGE_SUFFIXES)), key=_natural)
    if not pages:
        raise ParseError("is broken (it has no chapters): fetch it again or leave it out")
    title = None if package is None else _title(package.root)
    chapters = tuple(Chapter(name, members.sizes[name], name in members.protected) for name in pages)
    return Book(title, chapters, has_rights, is_in_doubt=True)


class _Members:
    """The members of the archive by name: their sizes, and which of them are protected."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.sizes = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
        self._by_folded_name = {name.casefold().replace("\\", "/"): name for name in self.sizes}
        self.protected = frozenset(self.named(name) for name in self._protected_names())

    def named(self, name: str) -> str:
        """The member of that name, also if it is written in other cases; the name itself if there is none."""
        return name if name in self.sizes else self._by_folded_name.get(name.casefold(), name)

    def xml(self, name: str) -> ElementTree.Element | None:
        """The root of a member; None if it is missing or damaged."""
        try:
            return ElementTree.fromstring(self._archive.read(self.named(name)))
        except (ElementTree.ParseError, LookupError, *MEMBER_ERRORS):
            return None

    def _protected_names(self) -> Iterator[str]:
        root = self.xml(_ENCRYPTION)
        for data in () if root is None else root.iter("{http://www.w3.org/2001/04/xmlenc#}EncryptedData"):
            method = data.find("{*}EncryptionMethod")
            algorithm = "" if method is None else method.get("Algorithm", "")
            reference = data.find(".//{*}CipherReference")
            if reference is not None and algorithm not in _FONT_OBFUSCATION:
                yield posixpath.normpath(unquote(reference.get("URI", "")))


@dataclass(frozen=True, slots=True)
class _Package:
    """The file that lists what belongs to the book, and the folder to which its names are relative."""

    root: ElementTree.Element
    folder: str


def _package(members: _Members) -> _Package | None:
    """The first package that can be read: the one that the container names, or else any."""
    container = members.xml(CONTAINER)
    named = [] if container is None else [one.get("full-path", "") for one in container.iter() if one.attrib]
    others = [name for name in members.sizes if name.lower().endswith(".opf")]
    for name in [unquote(name) for name in named if name] + others:
        root = members.xml(name)
        if root is not None:
            return _Package(root, posixpath.dirname(name))
    return None


def _title(package: ElementTree.Element) -> str | None:
    """The first title of the book that says something."""
    titles = (
        " ".join("".join(one.itertext()).split()) for one in package.findall(".//{*}metadata//{*}title")
    )
    return next((title for title in titles if title), None)


def _chapters(package: _Package, members: _Members) -> Iterator[Chapter]:
    """The chapters in the order of the spine. Pictures in the spine have no text, and are none."""
    items = {one.get("id", ""): one for one in package.root.findall(".//{*}manifest/{*}item")}
    contents = {
        _resolved(one.get("href", ""), package.folder)
        for one in package.root.findall(".//{*}guide/{*}reference")
        if one.get("type", "").lower() == "toc"
    }
    read: set[str] = set()
    for reference in package.root.findall(".//{*}spine/{*}itemref"):
        item = items.get(reference.get("idref", ""))
        if item is None:
            yield Chapter(reference.get("idref", "without a name"), None)
            continue
        name = members.named(_resolved(item.get("href", ""), package.folder))
        if not _is_page(item, name) or name in read:
            continue
        read.add(name)
        is_contents = "nav" in item.get("properties", "").split() or name in contents
        yield Chapter(
            name,
            members.sizes.get(name),
            name in members.protected,
            ChapterKind.CONTENTS if is_contents else ChapterKind.TEXT,
        )


def _is_page(item: ElementTree.Element, name: str) -> bool:
    return item.get("media-type", "").lower() in _PAGE_TYPES or name.lower().endswith(_PAGE_SUFFIXES)


def _resolved(href: str, folder: str) -> str:
    """The member that a link in the package leads to."""
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0]))).lstrip("/")


def _natural(name: str) -> list[tuple[int, str]]:
    """The key that sorts chapter 2 before chapter 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]
