"""The words of a page, where they are and in which font they are set."""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

import pypdfium2.raw as pdfium

from embedfleet.parsing.pdf.geometry import UPRIGHT, Direction, PageFrame

# PDFium gives one of these for the hyphen at the end of a line, and then no white space.
LINE_END_HYPHENS = "\u00ad\x02\ufffe"
_WORD = re.compile(rf"[^\s{LINE_END_HYPHENS}]+[{LINE_END_HYPHENS}]?")
_BOLD_NAME = re.compile(r"bold|black|heavy|demi|cmbx|sfbx|ptmb|phvb", re.IGNORECASE)
_MONO_NAME = re.compile(r"mono|cour|typewriter|consol|cmtt|sftt|menlo|inconsolata|nimbusmon", re.IGNORECASE)
_FIXED_PITCH, _FORCE_BOLD = 1 << 0, 1 << 18  # flags of a font, as the PDF standard numbers them
_BOLD_WEIGHT = 600  # semi-bold; regular text has 400
# Ligatures, and letters of Arabic and Hebrew in their positional shapes.
_SHAPED = re.compile("[\ufb00-\ufdff\ufe70-\ufefe]+")
# Bullets as the fonts Symbol and Wingdings number them.
_BULLETS = str.maketrans(dict.fromkeys("\uf0b7\uf0a7\uf0d8\uf06e\uf0fc\uf076\uf06c\uf0a8", "•"))
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]")
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1f\ue000-\uf8ff\ufffd]")
_RAISED, _SMALLER = 0.2, 0.85  # of the size of the letters before: a superscript is higher and smaller


@dataclass(frozen=True, slots=True)
class Font:
    """How a word is set: its size in points as the page shows it, and its look."""

    size: float
    bold: bool
    mono: bool
    direction: Direction
    unmapped: bool
    """Whether the font does not say which characters its letters are."""


@dataclass(slots=True)
class Word:
    """A word in upright coordinates, in points: x from the left, baseline from the top of the page."""

    text: str
    x0: float
    x1: float
    baseline: float
    font: Font
    glued: bool = False
    """Whether it is an exponent or a note's number that belongs to the word before."""


@dataclass(slots=True)
class PageWords:
    """The words of a page by the direction in which they run."""

    by_direction: dict[Direction, list[Word]] = field(default_factory=dict)
    letters: int = 0
    unreadable: int = 0
    """How many letters cannot be told."""
    erased: int = 0
    """How many letters are no characters at all, so that no word has them."""
    off_page: int = 0
    """How many letters are outside of the visible page."""


def words_of(text_page: pdfium.FPDF_TEXTPAGE, frame: PageFrame) -> PageWords:
    """Return the words of the page's text layer."""
    reader = _Reader(text_page, frame)
    words = PageWords()
    for word, unreadable in reader.words():
        letters = len(word.text)
        words.letters += letters
        words.unreadable += letters if word.font.unmapped else unreadable
        if frame.shows(word.x0, word.x1, word.baseline, word.font.direction):
            words.by_direction.setdefault(word.font.direction, []).append(word)
        else:
            words.off_page += letters
    words.erased = reader.erased
    return words


# The address of the object that a letter belongs to. pypdfium2's own declaration gives a pointer, and to
# learn its address costs more than the call.
_text_object_at = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)(
    ctypes.cast(pdfium.FPDFText_GetTextObject, ctypes.c_void_p).value or 0
)


class _Reader:
    """Asks PDFium about the letters of one page. Each call costs about half a microsecond, so it asks about
    the first and the last letter of a word only."""

    def __init__(self, text_page: pdfium.FPDF_TEXTPAGE, frame: PageFrame) -> None:
        self._page = text_page
        self._frame = frame
        self._fonts: dict[int, Font] = {}
        self._x, self._y = ctypes.c_double(), ctypes.c_double()
        self._box = pdfium.FS_RECTF()
        self._matrix = pdfium.FS_MATRIX()
        self._name = ctypes.create_string_buffer(128)  # longer names are cut; they begin with the family
        self._flags = ctypes.c_int()
        self.erased = 0

    def words(self) -> Iterator[tuple[Word, int]]:
        """Yield each word, and how many of its letters cannot be told."""
        for found in _WORD.finditer(self._text()):
            first, past = found.span()
            unreadable = len(_UNREADABLE.findall(found[0])) - (found[0][-1] in LINE_END_HYPHENS)
            pieces = self._pieces(found[0], first, past)
            for index, (text, start, end, font) in enumerate(pieces):
                word = self._word(text, start, end, font, glued=index > 0)
                if word is not None:
                    yield word, max(unreadable, 0)
                    unreadable = 0
                else:
                    self.erased += len(text)

    def _text(self) -> str:
        """The characters of the page, so that the index of each is PDFium's index of it."""
        count = pdfium.FPDFText_CountChars(self._page)
        if count <= 0:
            return ""
        buffer = (ctypes.c_ushort * (2 * count + 1))()
        written = pdfium.FPDFText_GetText(self._page, 0, count, buffer)
        text = bytes(buffer)[: 2 * (written - 1)].decode("utf-16-le", "replace")
        if len(text) != count:  # PDFium leaves out letters that are no characters
            codes = [pdfium.FPDFText_GetUnicode(self._page, index) for index in range(count)]
            text = "".join(chr(code) if code not in range(0xD800, 0xE000) else "\ufffd" for code in codes)
        return text

    def _pieces(self, text: str, first: int, past: int) -> list[tuple[str, int, int, Font]]:
        """The parts of a word between which it becomes small and raised: (text, first, past, font)."""
        font = self._font(first)
        if past - first == 1 or font is self._font(past - 1):
            return [(text, first, past, font)]
        starts = [(first, font)]
        for index in range(first + 1, past):
            before, font = font, self._font(index)
            # A small capital is of a logo, such as LaTeX.
            if font is not before and not text[index - first].isupper() and self._rises(index, before, font):
                starts.append((index, font))
        ends = [*(start for start, _ in starts[1:]), past]
        return [
            (text[start - first : end - first], start, end, font)
            for (start, font), end in zip(starts, ends, strict=True)
        ]

    def _rises(self, index: int, before: Font, font: Font) -> bool:
        """Whether a letter is smaller and higher than the letter before it."""
        if font.size >= _SMALLER * before.size:
            return False
        lower, higher = (self._baseline(at, before.direction) for at in (index - 1, index))
        return lower - higher > _RAISED * before.size

    def _baseline(self, index: int, direction: Direction) -> float:
        pdfium.FPDFText_GetCharOrigin(self._page, index, self._x, self._y)
        return self._frame.upright(self._x.value, self._y.value, direction)[1]

    def _word(self, text: str, first: int, past: int, font: Font, *, glued: bool) -> Word | None:
        pdfium.FPDFText_GetCharOrigin(self._page, first, self._x, self._y)
        pdfium.FPDFText_GetLooseCharBox(self._page, past - 1, self._box)
        box, frame = self._box, self._frame
        start, baseline = frame.upright(self._x.value, self._y.value, font.direction)
        one, _ = frame.upright(box.left, box.bottom, font.direction)
        other, _ = frame.upright(box.right, box.top, font.direction)
        text = _cleaned(text)
        if not text or not all(map(math.isfinite, (start, baseline, one, other))):
            return None
        return Word(text, min(start, one, other), max(start, one, other), baseline, font, glued)

    def _font(self, index: int) -> Font:
        key = _text_object_at(self._page, index) or 0
        font = self._fonts.get(key)
        if font is None:
            font = self._fonts[key] = self._font_at(index)
        return font

    def _font_at(self, index: int) -> Font:
        page, matrix = self._page, self._matrix
        size = pdfium.FPDFText_GetFontSize(page, index)
        direction = UPRIGHT
        if pdfium.FPDFText_GetMatrix(page, index, matrix):
            size *= math.hypot(matrix.c, matrix.d)
            direction = self._frame.direction(matrix.a, matrix.b)
        pdfium.FPDFText_GetFontInfo(page, index, self._name, len(self._name), self._flags)
        name, flags = self._name.value.decode("latin-1"), self._flags.value
        bold = bool(_BOLD_NAME.search(name)) or bool(flags & _FORCE_BOLD)
        bold = bold or pdfium.FPDFText_GetFontWeight(page, index) >= _BOLD_WEIGHT
        mono = bool(flags & _FIXED_PITCH) or bool(_MONO_NAME.search(name))
        unmapped = pdfium.FPDFText_HasUnicodeMapError(page, index) == 1
        return Font(round(size, 1), bold, mono, direction, unmapped)


def _cleaned(text: str) -> str:
    """The word with ligatures as letters, and its hyphen at the end of a line as U+00AD."""
    if text.isascii() and text.isprintable():
        return text
    hyphen = text[-1] in LINE_END_HYPHENS
    text = _CONTROL.sub("", text.rstrip(LINE_END_HYPHENS).translate(_BULLETS))
    text = _SHAPED.sub(lambda shaped: unicodedata.normalize("NFKC", shaped[0]), text)
    return text + "\u00ad" if hyphen and text else text
