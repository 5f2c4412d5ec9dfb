"""EPUB books: reads their chapters as HTML pages, in reading order.

A chapter that is damaged, missing or protected loses only that chapter, which the account names. A book
without a readable list of its chapters is read in the order of their names, in doubt.
"""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError, one_line
from embedfleet.parsing.archives import open_archive
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.epub_package import CONTAINER, MEMBER_ERRORS, Book, Chapter, ChapterKind, open_book
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.html import read_html, title_unless_said
from embedfleet.visible_text import letters_in

_BEGINNING_CHARS = 1000
"""How much of the first chapter is searched for the title of the book."""

_HTML_PER_LETTER = 2
"""How many bytes of a page hold one letter of its text, if no chapter of the book tells."""


def read_epub(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write one chapter at a time, without the table of contents. Holds the largest chapter in memory.

    Raises ParseError if not one chapter can be read.
    """
    with open_archive(stream, required=CONTAINER, kind="an EPUB book") as archive:
        book = open_book(archive)
        if book.is_in_doubt:
            draft.note(Code.EPUB_ORDER)
        _Reading(archive, book, draft).read()
    return "markdown"


class _Reading:
    """Reads the chapters of one book, and counts how many letters their bytes hold."""

    def __init__(self, archive: zipfile.ZipFile, book: Book, draft: Draft) -> None:
        self._archive = archive
        self._book = book
        self._draft = draft
        self._read = 0
        self._bytes = 0
        self._letters = 0
        self._lost: list[tuple[Code, Chapter, str]] = []
        self._beginning = ""

    def read(self) -> None:
        """Write the chapters, and note those that cannot be read."""
        for chapter in self._book.chapters:
            self._read_chapter(chapter)
        if self._lost and self._draft.blank:
            raise ParseError(self._why_nothing_is_read())
        for code, chapter, reason in self._lost:
            self._draft.note(code, chars=self._letters_of(chapter), place=f"{chapter.name}{reason}")
        self._draft.found("chapters", self._read)
        self._draft.title = title_unless_said(self._book.title or "", self._beginning)

    def _read_chapter(self, chapter: Chapter) -> None:
        if chapter.size is None:
            self._lost.append((Code.EPUB_CHAPTER, chapter, ": is not in the file"))
            return
        if chapter.is_protected:
            self._lost.append((Code.EPUB_PROTECTED, chapter, ""))
            return
        part = _Part()
        try:
            part.read(self._archive.read(chapter.name))
        except (*MEMBER_ERRORS, ParseError) as exc:
            code = Code.EPUB_PROTECTED if self._book.has_rights else Code.EPUB_CHAPTER
            self._lost.append((code, chapter, f": {_reason(exc)}"))
            return
        if chapter.kind is ChapterKind.CONTENTS:
            self._draft.note(Code.HTML_NAVIGATION, chars=letters_in(part.text), place=chapter.name)
            return
        self._read += 1
        self._beginning = self._beginning or part.text[:_BEGINNING_CHARS]
        self._bytes += chapter.size
        self._letters += letters_in(part.text)
        self._draft.account.include(part.account.account)
        self._draft.write(f"{part.text}\n")

    def _letters_of(self, chapter: Chapter) -> int | None:
        """About how many letters a chapter has that cannot be read; None if its size is not known."""
        if chapter.size is None:
            return None
        share = self._letters / self._bytes if self._letters else 1 / _HTML_PER_LETTER
        return round(chapter.size * share)

    def _why_nothing_is_read(self) -> str:
        if any(code is Code.EPUB_PROTECTED for code, _, _ in self._lost):
            return "is protected (DRM): its chapters are encrypted: use a copy without protection"
        _, chapter, reason = self._lost[0]
        return f"is broken (none of its chapters can be read, {chapter.name}{reason}): fetch it again"


def _reason(exc: Exception) -> str:
    """Why a chapter cannot be read, without the advice, which is not for parts of a book."""
    return one_line(exc).partition(": ")[0]


class _Part(Draft):
    """A chapter that is written to the book only when all of it is read."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        super().__init__(self._pieces.append)

    def read(self, page: bytes) -> None:
        read_html(io.BytesIO(page), self, is_chapter=True)

    @property
    def text(self) -> str:
        return "".join(self._pieces)
