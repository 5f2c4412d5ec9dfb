"""The document as a reader writes it: its text, its account, and the places of the text in the file."""

from __future__ import annotations

from collections.abc import Callable

from embedfleet.account import AccountKeeper
from embedfleet.account_codes import Code
from embedfleet.parsing.blobs import BlobFilter
from embedfleet.places import Places
from embedfleet.visible_text import shows_nothing

Emit = Callable[[str], None]
"""Takes the next piece of the text. A reader emits each piece at once, so that a text file of hundreds of
megabytes is never all in the child's memory."""

BLOCK_BYTES = 1 << 20
"""How many bytes of a file are read at once."""


class Draft:
    """What a reader fills. A reader that reads a part with another reader hands its draft on."""

    def __init__(self, emit: Emit, *, depth: int = 0, ocr_until: float | None = None) -> None:
        self.ocr_until = ocr_until
        """The CPU time of the process until which pages may be read by OCR; None: they must not be."""
        self.depth = depth
        """How many files this document is inside of: 1 for an attachment of a message."""
        self.account = AccountKeeper()
        self.title: str | None = None
        """What the document calls itself; None if it does not say, or if its text begins with the title."""
        self.blank = True
        """Whether nothing that shows has been written: only white space and characters of no width."""
        self._emit = emit
        self._filter = BlobFilter(self._hand_on, self.account)
        self._chars = 0
        self._pages: list[tuple[int, int]] = []
        self._cues: list[tuple[int, float, float]] = []

    def write(self, text: str) -> None:
        """Append the next piece of the text. Its lines end in LF; it has no NUL and no lone surrogate.

        Encoded data, such as a picture in base64, is left out and noted: see `BlobFilter`.
        """
        self._filter.write(text)

    def finish(self) -> None:
        """The document ends here. `blank` and `places` are right after this."""
        self._filter.flush()

    def _hand_on(self, text: str) -> None:
        self.blank = self.blank and shows_nothing(text)
        self._chars += len(text)
        self._emit(text)

    def begin_page(self, number: int) -> None:
        """The text from here on is on this page, from 1."""
        self._filter.flush()
        self._pages.append((self._chars, number))

    def begin_cue(self, start_seconds: float, end_seconds: float) -> None:
        """The text from here on is said between these seconds of the recording."""
        self._filter.flush()
        self._cues.append((self._chars, start_seconds, end_seconds))

    def note(self, code: Code, *, count: int = 1, chars: int | None = 0, place: str | None = None) -> None:
        """Note in the account that the text lacks something, or has it in doubt: see `AccountKeeper.note`."""
        self.account.note(code, count=count, chars=chars, place=place)

    def found(self, element: str, count: int = 1) -> None:
        """Count elements that are in the text: see `AccountKeeper.found`."""
        self.account.found(element, count)

    def part(self, emit: Emit) -> Draft:
        """A draft for a file inside of this one, such as an attachment, with an account of its own."""
        return Draft(emit, depth=self.depth + 1, ocr_until=self.ocr_until)

    @property
    def places(self) -> Places:
        return Places(tuple(self._pages), tuple(self._cues))
