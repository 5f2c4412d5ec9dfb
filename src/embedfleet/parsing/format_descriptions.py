"""What is kept of the files of each format, and what is left out: for `docs/formats.md` and for users.

Whatever is left out of a document is in its account, too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from embedfleet.account_codes import RULES
from embedfleet.parsing.formats import Format, suffixes_of


@dataclass(frozen=True, slots=True)
class Description:
    """What is kept and left out of the files of a format, and the library that reads them."""

    kept: str
    left_out: str
    library: str

    def json_document(self) -> dict[str, str]:
        """Return the stable form that `--json` prints."""
        return asdict(self)


_OURS = "none"

DESCRIPTIONS: dict[Format, Description] = {
    Format.TEXT: Description(
        "all text, unchanged",
        "NUL characters, encoded data (base64, hexadecimal)",
        "chardet, chardetng, webencodings",
    ),
    Format.MARKDOWN: Description(
        "text, headings, code, descriptions of images; front matter (YAML, TOML, JSON) as lines of "
        "`name: value`",
        "comments, lines that only have the address of a link, encoded data",
        _OURS,
    ),
    Format.CODE: Description("all text, unchanged", "encoded data, minified lines", _OURS),
    Format.HTML: Description(
        "headings, paragraphs, lists, tables, code, formulas, descriptions of images; text that scripts show",
        "menus, page headers and footers without text of their own, controls, hidden text, embedded pages",
        "selectolax, kreuzberg",
    ),
    Format.DELIMITED: Description(
        "titles above the table; each row as `header: value` lines", "empty cells, the line `sep=;`", _OURS
    ),
    Format.JSON: Description(
        "names and values, one a line; strings unescaped, also JSON in strings", "encoded data", _OURS
    ),
    Format.XML: Description(
        "RSS, Atom, DocBook, JATS, TEI, DITA, FictionBook, SVG: headings, paragraphs, lists, tables, code; "
        "other XML: values and attributes with their names; HTML in values as text",
        "tags, comments, index terms, scripts, addresses of links, what other files have",
        _OURS,
    ),
    Format.ORG: Description(
        "text, headings, code, tables; title and author as lines of `name: value`",
        "comments, drawers, settings, other files",
        _OURS,
    ),
    Format.RST: Description(
        "text, headings, code, notes, content of directives, descriptions of images",
        "comments, targets of links, settings, tables of contents, other files",
        _OURS,
    ),
    Format.ASCIIDOC: Description(
        "text, headings, code, tables, descriptions of images",
        "comments, attributes, raw output, other files",
        _OURS,
    ),
    Format.TEX: Description(
        "text, headings, formulas as they are, code, tables, footnotes in their place; title and author",
        "comments, the preamble, citations and labels, other files",
        _OURS,
    ),
    Format.NOTEBOOK: Description(
        "Markdown cells, code with its language, outputs that are text or tables, errors",
        "images, widgets, colours, earlier states of progress bars",
        "none; selectolax, kreuzberg for HTML",
    ),
    Format.MAIL: Description(
        "sender, receivers, date, subject; the plain text, or else the HTML; attachments by their formats",
        "other fields, signatures, pictures, what is encrypted, attachments of unknown formats",
        "Python's email; selectolax, kreuzberg for HTML",
    ),
    Format.MAILBOX: Description(
        "each message as in mail", "as in mail", "Python's email; selectolax, kreuzberg for HTML"
    ),
    Format.RTF: Description(
        "paragraphs, tables, all code pages", "images, hidden text, embedded objects", "kreuzberg"
    ),
    Format.CAPTIONS: Description(
        "what is said, once, as running speech; speakers; the seconds of each part",
        "numbers, times and styles of cues, comments, what rolling captions repeat",
        _OURS,
    ),
    Format.PDF: Description(
        "the text layer in reading order: headings, paragraphs, tables; values of forms, remarks; pages",
        "running heads and page numbers, images, text outside of the page; pages without text are lost",
        "pypdfium2 (PDFium)",
    ),
    Format.DOCX: Description(
        "headings, paragraphs, lists with their numbers, tables, text boxes, footnotes, endnotes, comments, "
        "formulas as LaTeX, charts and diagrams as text, descriptions of pictures",
        "page headers and footers, tables of contents, tracked deletions, hidden text, pictures without "
        "descriptions, embedded objects",
        _OURS,
    ),
    Format.XLSX: Description(
        "each sheet: its name as a heading, each row as `header: value` lines; numbers and dates as shown, "
        "results of formulas, merged cells in each of their rows, comments, text boxes, titles of charts",
        "hidden sheets, rows and columns, formulas without a stored result, pictures without descriptions",
        _OURS,
    ),
    Format.PPTX: Description(
        "each slide as a page: its title as a heading, text, tables, grouped shapes, charts and diagrams as "
        "text, notes, comments, descriptions of pictures",
        "hidden slides, dates and numbers of slides, pictures without descriptions, embedded objects",
        _OURS,
    ),
    Format.OPENDOCUMENT: Description(
        "texts as for docx, sheets as for xlsx, slides as for pptx; formulas as their authors typed them",
        "page headers and footers, tables of contents, tracked deletions, what is hidden, pictures without "
        "descriptions, embedded objects",
        _OURS,
    ),
    Format.EPUB: Description("the chapters, in reading order", "the table of contents, images", "kreuzberg"),
}


def table() -> str:
    """The descriptions as a Markdown table."""
    rows = [
        f"| {form.value} | {' '.join(suffixes_of(form))} | {one.kept} | {one.left_out} | {one.library} |"
        for form, one in DESCRIPTIONS.items()
    ]
    return "\n".join(["| format | suffixes | kept | left out | library |", "|---|---|---|---|---|", *rows])


def codes_table() -> str:
    """The codes of accounts as a Markdown table."""
    rows = [
        f"| `{code.value}` | {rule.effect.value} | {rule.one} | {rule.advice or ''} |"
        for code, rule in sorted(RULES.items(), key=lambda item: item[0].value)
    ]
    return "\n".join(["| code | effect | what | what to do |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(f"{table()}\n\n## The codes\n\n{codes_table()}")
