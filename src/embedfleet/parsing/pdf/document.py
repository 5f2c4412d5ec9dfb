"""Reads a PDF page by page, and says which pages have no text."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import pypdfium2 as pypdfium
import pypdfium2.raw as pdfium

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.pdf import ocr
from embedfleet.parsing.pdf.annotations import texts_of
from embedfleet.parsing.pdf.columns import columns_of
from embedfleet.parsing.pdf.furniture import furniture_of
from embedfleet.parsing.pdf.geometry import PageFrame
from embedfleet.parsing.pdf.lines import Segment, lines_of, segments_of
from embedfleet.parsing.pdf.paragraphs import Block, Layout, blocks_of, continued
from embedfleet.parsing.pdf.words import words_of
from embedfleet.parsing.signatures import HEAD_BYTES, PDF

_MOST_OBJECTS = 2000  # of a page that are looked at for images
_DRAWN_LETTERS = 100  # shapes on a page without text: fewer are rules and ornaments
_UNREADABLE_SHARE = 0.1  # of the letters of a page: fewer are bullets and signs
_PICTURE_SHARE = 0.5  # of the page: the image of a scan has margins, a figure is smaller
_STAMP_LETTERS = 200  # a scan whose text was recognised has more on a page
_NUMBER = re.compile(r"\d+")
# What programs write where the author has given no title.
_NO_TITLE = re.compile(r"\.\w{2,4}$|^\W*(microsoft word|untitled|anonymous|slide 1)", re.IGNORECASE)


@dataclass(slots=True)
class _Page:
    """What was read of a page. `segments` are from top to bottom."""

    segments: list[Segment] = field(default_factory=list)
    turned: list[list[Segment]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    is_picture: bool = False
    """Whether one image covers most of the page, as that of a scanner does."""

    @property
    def texts(self) -> list[str]:
        """What its segments say, without their numbers: pages that were stamped have the same."""
        return [_NUMBER.sub("#", one.text) for some in (self.segments, *self.turned) for one in some]


def read_pdf(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the text layer, the values of forms and the remarks. Holds the file in memory."""
    head = stream.read(HEAD_BYTES)
    if PDF not in head:
        raise ParseError("is not a PDF file (it does not begin with %PDF): fetch it again or rename it")
    document = _opened(head + stream.read())
    try:
        pages = _Reader(document, draft).pages()
        _write(pages, draft)
        title = str(document.get_metadata_value("Title") or "").strip()
    finally:
        document.close()
    if title and not _NO_TITLE.search(title) and pages and title not in _beginning(pages):
        draft.title = title
    return "markdown"


def _opened(data: bytes) -> pypdfium.PdfDocument:
    try:
        document = pypdfium.PdfDocument(data)
        document.init_forms()
    except pypdfium.PdfiumError as exc:
        if "password" in str(exc).lower() or "security" in str(exc).lower():
            raise ParseError("is encrypted: remove the password and try again") from exc
        raise ParseError(f"is broken ({exc}): repair it or leave it out") from exc
    return document


class _Reader:
    def __init__(self, document: pypdfium.PdfDocument, draft: Draft) -> None:
        self._document = document
        self._draft = draft
        self._without_text: list[int] = []
        self._broken: list[int] = []
        self._unread: list[int] = []
        """Pages for which no time was left."""

    def pages(self) -> list[_Page]:
        """Read all pages, and note those that cannot be read or have no text."""
        pages = [self._page(number) for number in range(1, len(self._document) + 1)]
        self._without_text += _stamped(pages)
        self._without_text = [number for number in self._without_text if number not in self._unread]
        without = {*self._without_text, *self._unread}
        written = [n for n, page in enumerate(pages, 1) if (page.texts or page.remarks) and n not in without]
        self._draft.found("pages", len(written))
        self._note(Code.PDF_WITHOUT_TEXT, sorted(self._without_text))
        self._note(Code.PDF_OCR_TIME, self._unread)
        self._note(Code.PDF_BROKEN_PAGE, self._broken)
        return pages

    def _note(self, code: Code, numbers: Sequence[int]) -> None:
        self._draft.note(code, count=len(numbers), chars=None, place=_ranges(numbers))

    def _page(self, number: int) -> _Page:
        try:
            page = self._document[number - 1]
        except pypdfium.PdfiumError:
            self._broken.append(number)
            return _Page()
        try:
            return self._read(page, number)
        except (pypdfium.PdfiumError, ValueError):
            self._broken.append(number)
            return _Page()
        finally:
            page.close()

    def _read(self, page: pypdfium.PdfPage, number: int) -> _Page:
        left, bottom, right, top = page.get_cropbox()
        frame = PageFrame(left, bottom, right, top, page.get_rotation() // 90)
        text_page = page.get_textpage()
        try:
            words = words_of(text_page.raw, frame)
        finally:
            text_page.close()
        forms = self._document.formenv.raw if self._document.formenv is not None else None
        beside = texts_of(page.raw, forms)
        read = _Page(remarks=list(dict.fromkeys(beside.shown)))
        self._draft.note(Code.HIDDEN, count=beside.hidden, place=f"page {number}")
        for direction, some in words.by_direction.items():
            segments = segments_of(some)
            if direction.value == "right":
                read.segments = segments
            else:
                read.turned.append(segments)
        images = _images_of(page)
        read.is_picture = any(_share(image, page) > _PICTURE_SHARE for image in images)
        if (not words.letters or (read.is_picture and words.letters < _STAMP_LETTERS)) and images:
            read.segments = self._read_picture(page, number) or read.segments
        if words.letters or read.segments:
            self._draft.note(Code.IMAGE, count=len(images), chars=None)
        elif images or words.erased or pdfium.FPDFPage_CountObjects(page.raw) > _DRAWN_LETTERS:
            self._without_text.append(number)
        if words.unreadable > _UNREADABLE_SHARE * words.letters:
            self._draft.note(Code.PDF_UNREADABLE, count=words.unreadable, place=f"page {number}")
        self._draft.note(Code.PDF_OFF_PAGE, count=words.off_page, place=f"page {number}")
        return read

    def _read_picture(self, page: pypdfium.PdfPage, number: int) -> list[Segment]:
        """The lines of a page that is a picture, if they may be read by OCR."""
        until = self._draft.ocr_until
        if until is None:
            return []
        if not ocr.has_time(until):
            self._unread.append(number)
            return []
        segments = ocr.segments_in(page)
        self._draft.note(Code.PDF_OCR, count=bool(segments), place=f"page {number}")
        return segments


def _images_of(page: pypdfium.PdfPage) -> list[pdfium.FPDF_PAGEOBJECT]:
    count = min(pdfium.FPDFPage_CountObjects(page.raw), _MOST_OBJECTS)
    objects = (pdfium.FPDFPage_GetObject(page.raw, index) for index in range(count))
    return [one for one in objects if pdfium.FPDFPageObj_GetType(one) == pdfium.FPDF_PAGEOBJ_IMAGE]


def _share(image: pdfium.FPDF_PAGEOBJECT, page: pypdfium.PdfPage) -> float:
    """The share of the page that the image covers."""
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    pdfium.FPDFPageObj_GetBounds(image, left, bottom, right, top)
    area = (right.value - left.value) * (top.value - bottom.value)
    x0, y0, x1, y1 = page.get_cropbox()
    return float(area / ((x1 - x0) * (y1 - y0) or 1.0))


def _stamped(pages: Sequence[_Page]) -> list[int]:
    """The numbers of the pages that are pictures, with only a stamp or a page number in letters on them."""
    common = Counter(text for page in pages for text in set(page.texts))
    return [
        number
        for number, page in enumerate(pages, 1)
        if page.is_picture
        and page.texts
        and sum(map(len, page.texts)) < _STAMP_LETTERS
        and all(common[text] > 1 or not any(map(str.isalpha, text)) for text in page.texts)
    ]


def _write(pages: Sequence[_Page], draft: Draft) -> None:
    furniture = furniture_of([page.segments for page in pages])
    kept: list[list[Segment]] = []
    for page, outer in zip(pages, furniture, strict=True):
        for place in outer:
            draft.note(Code.RUNNING_HEAD, chars=page.segments[place].letters)
        kept.append([one for place, one in enumerate(page.segments) if place not in outer])
    layout = Layout([line for segments in kept for line in lines_of(segments)])
    before: Block | None = None
    for number, (page, segments) in enumerate(zip(pages, kept, strict=True), 1):
        begun = False
        for block in _blocks(page, segments, layout):
            goes_on = not begun and before is not None and _goes_on(before, block)
            if before is not None:
                draft.write(_between(before, block) if goes_on else before.text + "\n\n")
            if not begun:
                draft.begin_page(number)
                begun = True
            before = block
    if before is not None:
        draft.write(before.text + "\n")


def _blocks(page: _Page, segments: Sequence[Segment], layout: Layout) -> Iterator[Block]:
    for lines in columns_of(segments):
        yield from blocks_of(lines, layout)
    for turned in page.turned:
        yield from blocks_of(lines_of(turned), layout)
    for remark in page.remarks:
        yield Block(remark)


def _goes_on(before: Block, block: Block) -> bool:
    """Whether a paragraph goes on at the top of the next page."""
    return before.open and block.text[:1].islower()


def _between(before: Block, block: Block) -> str:
    """What is written of a paragraph that goes on, before what goes on with it."""
    return continued(before.text, block.text).removesuffix(block.text)


def _beginning(pages: Sequence[_Page]) -> str:
    return " ".join(segment.text for segment in pages[0].segments[:40])


def _ranges(numbers: Sequence[int]) -> str:
    """Page numbers as people write them: "pages 2-10, 12"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    named = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:20])
    more = ", …" if len(runs) > 20 else ""
    return f"{'page' if len(numbers) == 1 else 'pages'} {named}{more}"
