"""The account of a document: what its reader found in the file, and what of the file is not in the text.

Every reader keeps one (`AccountKeeper`). What a reader decides to leave out, cannot read or is not sure of
has an entry with a stable code, so that nothing is left out unsaid. `_RULES` has what each code means. The
parser process imports this module, so it imports nothing that is slow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MOST_PLACES = 8
"""How many places an entry names; `count` counts the others."""


class Effect(StrEnum):
    """What an entry means for the text.

    `lost`: content of the document that is not in the text; a strict ingest refuses the document.
    `furniture`: seen on the page, but no content of it, such as menus and running heads. `unseen`: in the
    file, but not seen by a reader of the page, such as scripts and hidden text. `doubt`: in the text, perhaps
    not as the author wrote it.

    Only what is lost or furniture counts against the coverage, as a reader of the page sees it.
    """

    LOST = "lost"
    FURNITURE = "furniture"
    UNSEEN = "unseen"
    DOUBT = "doubt"


class Code(StrEnum):
    """The stable names of what an account reports. `docs/formats.md` lists them."""

    ENCODING_GUESSED = "encoding.guessed"
    CHARACTERS_REPLACED = "encoding.characters_replaced"
    NUL_CHARACTERS = "encoding.nul_characters"
    MINIFIED_CODE = "code.minified"
    MARKUP_SETTING = "markup.setting"
    OTHER_FILE = "markup.other_file"
    BROKEN_MARKUP = "markup.broken"
    STRAY_QUOTE = "csv.stray_quote"
    LINK_TARGET = "markup.link_target"
    MARKUP_COMMENT = "markup.comment"
    ENCODED_DATA = "data.encoded"
    HTML_LAYOUT = "html.layout"
    HTML_NAVIGATION = "html.navigation"
    HTML_HIDDEN = "html.hidden"
    EPUB_CHAPTER = "epub.chapter"
    EPUB_PROTECTED = "epub.protected"
    EPUB_ORDER = "epub.order"
    SPEECH_TIME = "speech.time"
    SPEECH_REPEATED = "speech.repeated"
    SPEECH_COMMENT = "speech.comment"
    SPEECH_DETAIL = "speech.detail"
    NOTEBOOK_IMAGE = "notebook.image"
    NOTEBOOK_WIDGET = "notebook.widget"
    NOTEBOOK_BROKEN = "notebook.broken"
    HTML_CONTROLS = "html.controls"
    HTML_EMBEDDED = "html.embedded"
    HTML_IMAGE = "html.image"
    OFFICE_HIDDEN = "office.hidden"
    OFFICE_DELETED = "office.deleted"
    OFFICE_HEADER = "office.header_footer"
    OFFICE_CONTENTS = "office.contents"
    OFFICE_PROMPT = "office.prompt"
    OFFICE_SYMBOL = "office.symbol"
    OFFICE_OBJECT = "office.object"
    OFFICE_PART = "office.part"
    OFFICE_IMAGE = "office.image"
    SHEET_FORMULA = "sheet.formula"
    UNKNOWN_TEXT = "model.unknown_text"
    MAIL_ATTACHMENT = "mail.attachment"
    MAIL_MESSAGE = "mail.message"
    MAIL_ENCRYPTED = "mail.encrypted"
    MAIL_SIGNATURE = "mail.signature"
    MAIL_OTHER_FORM = "mail.other_form"
    MAIL_INLINE = "mail.inline"
    MAIL_FIELD = "mail.field"
    PDF_WITHOUT_TEXT = "pdf.page_without_text"
    PDF_BROKEN_PAGE = "pdf.broken_page"
    PDF_UNREADABLE = "pdf.unreadable_letters"
    PDF_OFF_PAGE = "pdf.off_page"
    PDF_HIDDEN = "pdf.hidden"
    PDF_RUNNING = "pdf.running_head"
    PDF_IMAGE = "pdf.image"
    LATER_RELEASE = "later_release"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a code means: its effect, how one and several are called, and what to do about them."""

    effect: Effect
    one: str
    several: str
    advice: str | None = None


_RULES: dict[Code, Rule] = {
    Code.ENCODING_GUESSED: Rule(
        Effect.DOUBT, "guessed encoding", "guessed encodings", "save it as UTF-8 to be sure"
    ),
    Code.CHARACTERS_REPLACED: Rule(
        Effect.LOST,
        "character that is not valid in its encoding (replaced by U+FFFD)",
        "characters that are not valid in their encoding (replaced by U+FFFD)",
        "save it as UTF-8",
    ),
    Code.NUL_CHARACTERS: Rule(Effect.UNSEEN, "NUL character", "NUL characters"),
    Code.ENCODED_DATA: Rule(
        Effect.UNSEEN, "block of encoded data (base64, hexadecimal)", "blocks of encoded data"
    ),
    Code.HTML_LAYOUT: Rule(
        Effect.DOUBT,
        "layout that is too deep for Markdown (only its text was kept)",
        "layouts that are too deep for Markdown (only their text was kept)",
    ),
    Code.HTML_NAVIGATION: Rule(
        Effect.FURNITURE,
        "menu, header, footer or sidebar without text of its own",
        "menus, headers, footers and sidebars without text of their own",
    ),
    Code.HTML_HIDDEN: Rule(Effect.UNSEEN, "hidden element", "hidden elements"),
    Code.EPUB_CHAPTER: Rule(
        Effect.LOST,
        "chapter that is damaged or missing",
        "chapters that are damaged or missing",
        "fetch the book again",
    ),
    Code.EPUB_PROTECTED: Rule(
        Effect.LOST,
        "chapter that is protected (DRM)",
        "chapters that are protected (DRM)",
        "use a copy without protection",
    ),
    Code.EPUB_ORDER: Rule(
        Effect.DOUBT,
        "list of chapters that cannot be read (they follow in the order of their names)",
        "lists of chapters that cannot be read (they follow in the order of their names)",
        "fetch the book again",
    ),
    Code.SPEECH_TIME: Rule(
        Effect.DOUBT,
        "time of a caption that cannot be read (its text is kept)",
        "times of captions that cannot be read (their text is kept)",
        "mend the time, if searches must say when it is said",
    ),
    Code.SPEECH_REPEATED: Rule(
        Effect.UNSEEN,
        "caption that repeats what is on the screen",
        "captions that repeat what is on the screen",
    ),
    Code.SPEECH_COMMENT: Rule(
        Effect.UNSEEN, "comment or style of the captions", "comments and styles of the captions"
    ),
    Code.SPEECH_DETAIL: Rule(
        Effect.UNSEEN, "technical detail of the transcript", "technical details of the transcript"
    ),
    Code.NOTEBOOK_IMAGE: Rule(
        Effect.UNSEEN, "image of a notebook (it has no text)", "images of a notebook (they have no text)"
    ),
    Code.NOTEBOOK_WIDGET: Rule(Effect.UNSEEN, "widget of a notebook", "widgets of a notebook"),
    Code.NOTEBOOK_BROKEN: Rule(
        Effect.DOUBT,
        "notebook that is not valid JSON (laid out as it is)",
        "notebooks that are not valid JSON (laid out as they are)",
        "repair it",
    ),
    Code.MARKUP_COMMENT: Rule(Effect.UNSEEN, "comment", "comments"),
    Code.MINIFIED_CODE: Rule(
        Effect.UNSEEN,
        "line of minified code",
        "lines of minified code",
        "add the source that it is made from",
    ),
    Code.MARKUP_SETTING: Rule(
        Effect.UNSEEN,
        "setting of the page (options, drawers, preamble, raw output)",
        "settings of the page (options, drawers, preamble, raw output)",
    ),
    Code.OTHER_FILE: Rule(
        Effect.LOST,
        "part that is in another file",
        "parts that are in other files",
        "add those files too, or put them together",
    ),
    Code.BROKEN_MARKUP: Rule(
        Effect.DOUBT,
        "tag that does not fit the others (its text was kept)",
        "tags that do not fit the others (their text was kept)",
        "repair the file, or download it again if it is cut off",
    ),
    Code.STRAY_QUOTE: Rule(
        Effect.DOUBT,
        "quote that nothing closes (kept as a character)",
        "quotes that nothing closes (kept as characters)",
        "double it or close it, if its cell goes on in the next line",
    ),
    Code.LINK_TARGET: Rule(Effect.UNSEEN, "line with a link's address", "lines with links' addresses"),
    Code.HTML_CONTROLS: Rule(Effect.FURNITURE, "form control", "form controls"),
    Code.HTML_EMBEDDED: Rule(
        Effect.FURNITURE, "embedded page or player", "embedded pages or players", "ingest what it shows"
    ),
    Code.HTML_IMAGE: Rule(Effect.FURNITURE, "image without a description", "images without a description"),
    Code.OFFICE_HIDDEN: Rule(
        Effect.UNSEEN, "hidden part", "hidden parts", "unhide what should be found by searches"
    ),
    Code.OFFICE_DELETED: Rule(Effect.UNSEEN, "tracked deletion or move", "tracked deletions and moves"),
    Code.OFFICE_HEADER: Rule(Effect.FURNITURE, "page header or footer", "page headers and footers"),
    Code.OFFICE_CONTENTS: Rule(
        Effect.FURNITURE, "entry of a table of contents or index", "entries of tables of contents and indexes"
    ),
    Code.OFFICE_PROMPT: Rule(
        Effect.FURNITURE, "prompt of an empty form field", "prompts of empty form fields"
    ),
    Code.OFFICE_SYMBOL: Rule(
        Effect.LOST,
        "symbol of a font that has no letter for it",
        "symbols of fonts that have no letters for them",
        "type them as Unicode characters",
    ),
    Code.OFFICE_OBJECT: Rule(
        Effect.LOST,
        "embedded object of another program",
        "embedded objects of other programs",
        "save what they hold as files, and ingest these",
    ),
    Code.OFFICE_PART: Rule(
        Effect.LOST,
        "part that is missing or broken",
        "parts that are missing or broken",
        "open it in its program and save it again",
    ),
    Code.SHEET_FORMULA: Rule(
        Effect.LOST,
        "formula whose result is not in the file",
        "formulas whose results are not in the file",
        "open it in a spreadsheet program and save it again",
    ),
    Code.OFFICE_IMAGE: Rule(
        Effect.FURNITURE,
        "image without a description",
        "images without a description",
        "describe what should be found by searches",
    ),
    Code.UNKNOWN_TEXT: Rule(
        Effect.LOST,
        "token that the model does not know",
        "tokens that the model does not know",
        "searches cannot find this: embed it with a model that knows it, such as a multilingual one",
    ),
    Code.MAIL_ATTACHMENT: Rule(
        Effect.LOST,
        "attachment that cannot be read",
        "attachments that cannot be read",
        "save it in a format that can be read, and ingest it by itself",
    ),
    Code.MAIL_MESSAGE: Rule(
        Effect.LOST,
        "message of a mailbox that cannot be read",
        "messages of a mailbox that cannot be read",
    ),
    Code.MAIL_ENCRYPTED: Rule(
        Effect.LOST, "encrypted part of a message", "encrypted parts of a message", "decrypt the message"
    ),
    Code.MAIL_SIGNATURE: Rule(Effect.UNSEEN, "digital signature or key", "digital signatures and keys"),
    Code.MAIL_OTHER_FORM: Rule(Effect.UNSEEN, "other form of the same text", "other forms of the same text"),
    Code.MAIL_INLINE: Rule(
        Effect.UNSEEN, "picture or style in a message", "pictures and styles in a message"
    ),
    Code.MAIL_FIELD: Rule(Effect.UNSEEN, "technical field of a message", "technical fields of a message"),
    Code.PDF_WITHOUT_TEXT: Rule(
        Effect.LOST,
        "page without a text layer, probably scanned",
        "pages without a text layer, probably scanned",
        "run OCR on the file first (`ocrmypdf`)",
    ),
    Code.PDF_BROKEN_PAGE: Rule(
        Effect.LOST, "page that is broken", "pages that are broken", "repair the file"
    ),
    Code.PDF_UNREADABLE: Rule(
        Effect.DOUBT,
        "letter whose font does not say which character it is",
        "letters whose fonts do not say which characters they are",
        "run OCR on all of its pages",
    ),
    Code.PDF_OFF_PAGE: Rule(Effect.UNSEEN, "letter outside of the page", "letters outside of the page"),
    Code.PDF_HIDDEN: Rule(
        Effect.UNSEEN, "hidden remark, hidden or secret field", "hidden remarks, hidden and secret fields"
    ),
    Code.PDF_RUNNING: Rule(
        Effect.FURNITURE, "running head, foot or page number", "running heads, feet and page numbers"
    ),
    Code.PDF_IMAGE: Rule(Effect.FURNITURE, "image of a PDF", "images of a PDF"),
    Code.LATER_RELEASE: Rule(
        Effect.DOUBT, "remark of a later release", "remarks of a later release", "upgrade this host"
    ),
}


def rule_of(code: Code) -> Rule:
    """Return what the code means."""
    return _RULES[code]


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of thing that the text lacks, or has in doubt.

    `count` is the number of elements. `chars` is the number of their characters that are not blank; None if
    it cannot be known, as for a scanned page. `places` says where the first ones are ("page 2", "line 5",
    "cp1254, or else cp1252"): at most MOST_PLACES.
    """

    code: Code
    count: int = 1
    chars: int | None = 0
    places: tuple[str, ...] = ()

    @property
    def effect(self) -> Effect:
        return rule_of(self.code).effect

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints, with the effect and a line for people."""
        return {
            "code": self.code.value,
            "effect": self.effect.value,
            "count": self.count,
            "chars": self.chars,
            "places": list(self.places),
            "message": self.line,
        }

    @property
    def line(self) -> str:
        """The entry in one line for people: "lost: 2 pages without text (page 2, page 4): run OCR"."""
        rule = rule_of(self.code)
        verb = {Effect.LOST: "lost", Effect.DOUBT: "in doubt"}.get(rule.effect, "left out")
        chars = f", {self.chars:,} characters" if self.chars and self.chars != self.count else ""
        unnamed = self.count - len(self.places) if len(self.places) == MOST_PLACES else 0
        more = f" and {unnamed} more" if unnamed > 0 else ""
        places = f" ({', '.join(self.places)}{more})" if self.places else ""
        advice = f": {rule.advice}" if rule.advice else ""
        name = rule.one if self.count == 1 else rule.several
        return f"{verb}: {self.count:,} {name}{chars}{places}{advice}"


@dataclass(frozen=True, slots=True)
class Account:
    """What a reader found in a file (elements by name, such as "pages": 10), and what the text lacks."""

    found: tuple[tuple[str, int], ...] = ()
    entries: tuple[Entry, ...] = ()

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints and SQL keeps."""
        return {"found": dict(self.found), "entries": [entry.json_document() for entry in self.entries]}

    def written(self) -> str | None:
        """Return the account as JSON text; None if it says nothing."""
        return json.dumps(self.json_document(), ensure_ascii=False) if self != NOTHING_SAID else None

    @classmethod
    def of_json(cls, written: str) -> Account:
        """Return the account that was `written`."""
        document = json.loads(written)
        entries = tuple(
            Entry(_code(one["code"]), one["count"], one["chars"], tuple(one["places"]))
            for one in document["entries"]
        )
        return cls(tuple(document["found"].items()), entries)

    def with_entry(self, entry: Entry) -> Account:
        """Return this account with the entry, in place of one of the same code."""
        others = [one for one in self.entries if one.code is not entry.code]
        return Account(self.found, (*others, entry))

    def coverage(self, *, covered: int, visible: int) -> float:
        """Return the share, 0 to 1, of what a reader of the source sees that is in the text's chunks.

        `visible` characters of the text are not blank, `covered` of them are in chunks. Pages of which no
        character is known count as many characters as the pages that are in the text have on average.
        """
        pages = dict(self.found).get("pages", 0)
        unknown = sum(one.count for one in self.lost if one.chars is None)
        estimated = round(visible * unknown / pages) if pages else 0
        seen = visible + self.seen_chars_missing + estimated
        return covered / seen if seen else 1.0

    @property
    def lost(self) -> tuple[Entry, ...]:
        """The entries about content that is not in the text."""
        return tuple(entry for entry in self.entries if entry.effect is Effect.LOST)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The lines that a user should see for each document: what is lost and what is in doubt."""
        return tuple(entry.line for entry in self.entries if entry.effect in (Effect.LOST, Effect.DOUBT))

    @property
    def seen_chars_missing(self) -> int:
        """How many characters, as far as known, a reader of the page sees that are not in the text."""
        seen = (Effect.LOST, Effect.FURNITURE)
        return sum(entry.chars or 0 for entry in self.entries if entry.effect in seen)


def summed(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return one entry for each code, in the order of the first of each."""
    sums: dict[Code, Entry] = {}
    for entry in entries:
        before = sums.get(entry.code)
        if before is not None:
            unknown = entry.chars is None and before.chars is None
            entry = Entry(
                entry.code,
                before.count + entry.count,
                None if unknown else (before.chars or 0) + (entry.chars or 0),
                (before.places + entry.places)[:MOST_PLACES],
            )
        sums[entry.code] = entry
    return tuple(sums.values())


NOTHING_SAID = Account()
"""The account of a text that has none, such as one that an application hands over."""


def _code(value: str) -> Code:
    try:
        return Code(value)
    except ValueError:
        return Code.LATER_RELEASE


class AccountKeeper:
    """Collects the account of one document while it is read. Readers that call others share one."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._entries: dict[Code, Entry] = {}

    def found(self, element: str, count: int = 1) -> None:
        """Count elements that are in the text, by their name in the plural: "pages", "tables", "notes"."""
        self._found[element] = self._found.get(element, 0) + count

    def note(self, code: Code, *, count: int = 1, chars: int | None = 0, place: str | None = None) -> None:
        """Note that the text lacks something, or has it in doubt. Notes of one code are summed."""
        if count:
            entry = Entry(code, count, chars, () if place is None else (place,))
            before = self._entries.get(code)
            self._entries[code] = entry if before is None else summed((before, entry))[0]

    def include(self, account: Account, *, place: str | None = None) -> None:
        """Add the account of a part, such as an attachment. `place` is put before the places in it."""
        for element, count in account.found:
            self.found(element, count)
        for entry in account.entries:
            places = entry.places
            if place is not None:
                places = tuple(f"{place}: {one}" for one in places) or (place,)
            before = self._entries.get(entry.code)
            added = Entry(entry.code, entry.count, entry.chars, places)
            self._entries[entry.code] = added if before is None else summed((before, added))[0]

    @property
    def account(self) -> Account:
        return Account(tuple(self._found.items()), tuple(self._entries.values()))


INVISIBLE_RANGES = (
    *((0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160)),
    *((0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    *((0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0)),
    *((0xFFF0, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""Characters that show nothing though they are not white space, as closed ranges: control characters, the
blank of Braille, and those that Unicode calls default ignorable, such as zero-width spaces and joiners."""

_VISIBLE = re.compile("[^\\s" + "".join(f"{chr(a)}-{chr(b)}" for a, b in INVISIBLE_RANGES) + "]")


def shows_nothing(text: str) -> bool:
    """Whether a reader of the text sees nothing: it is empty, white space, or characters of no width."""
    return _VISIBLE.search(text) is None


def letters_in(text: str) -> int:
    """Return the number of characters that are not blank, as accounts count them."""
    return len("".join(text.split()))
