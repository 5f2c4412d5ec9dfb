"""The stable codes of what an account reports, and what each means.

A reader that leaves something out for a new reason adds a code here, with its rule. `docs/formats.md` lists
all of them. The parser process imports this module, so it imports nothing that is slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


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
    """The stable names of what an account reports."""

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
    EPUB_CHAPTER = "epub.chapter"
    EPUB_PROTECTED = "epub.protected"
    EPUB_ORDER = "epub.order"
    SPEECH_TIME = "speech.time"
    SPEECH_REPEATED = "speech.repeated"
    SPEECH_COMMENT = "speech.comment"
    SPEECH_DETAIL = "speech.detail"
    NOTEBOOK_WIDGET = "notebook.widget"
    NOTEBOOK_BROKEN = "notebook.broken"
    HTML_CONTROLS = "html.controls"
    HTML_EMBEDDED = "html.embedded"
    OFFICE_DELETED = "office.deleted"
    OFFICE_CONTENTS = "office.contents"
    OFFICE_PROMPT = "office.prompt"
    OFFICE_SYMBOL = "office.symbol"
    OFFICE_OBJECT = "office.object"
    OFFICE_PART = "office.part"
    SHEET_FORMULA = "sheet.formula"
    UNKNOWN_TEXT = "model.unknown_text"
    HIDDEN = "hidden"
    IMAGE = "image"
    RUNNING_HEAD = "running_head"
    MAIL_ATTACHMENT = "mail.attachment"
    MAIL_MESSAGE = "mail.message"
    MAIL_ENCRYPTED = "mail.encrypted"
    MAIL_SIGNATURE = "mail.signature"
    MAIL_OTHER_FORM = "mail.other_form"
    MAIL_INLINE = "mail.inline"
    MAIL_FIELD = "mail.field"
    PDF_WITHOUT_TEXT = "pdf.page_without_text"
    PDF_OCR = "pdf.ocr"
    PDF_OCR_TIME = "pdf.ocr_time"
    PDF_BROKEN_PAGE = "pdf.broken_page"
    PDF_UNREADABLE = "pdf.unreadable_letters"
    PDF_OFF_PAGE = "pdf.off_page"
    LATER_RELEASE = "later_release"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a code means: its effect, how one and several are called, and what to do about them."""

    effect: Effect
    one: str
    several: str
    advice: str | None = None


RULES: Mapping[Code, Rule] = {
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
    Code.OFFICE_DELETED: Rule(Effect.UNSEEN, "tracked deletion or move", "tracked deletions and moves"),
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
    Code.HIDDEN: Rule(Effect.UNSEEN, "hidden part", "hidden parts"),
    Code.IMAGE: Rule(
        Effect.FURNITURE,
        "image without a description",
        "images without a description",
        "describe what should be found by searches",
    ),
    Code.RUNNING_HEAD: Rule(
        Effect.FURNITURE, "running head, foot or page number", "running heads, feet and page numbers"
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
    Code.PDF_OCR: Rule(Effect.DOUBT, "page that was read by OCR", "pages that were read by OCR"),
    Code.PDF_OCR_TIME: Rule(
        Effect.LOST,
        "scanned page for which no time was left",
        "scanned pages for which no time was left",
        "raise `parsing.cpu_seconds` and `parsing.timeout_seconds`",
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
    Code.LATER_RELEASE: Rule(
        Effect.DOUBT, "remark of a later release", "remarks of a later release", "upgrade this host"
    ),
}
