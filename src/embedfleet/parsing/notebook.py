"""Jupyter notebooks (.ipynb): the cells in order, as Markdown, with the outputs that are text.

Code is fenced, with its language. Of an output's forms one is taken: a table as HTML, then Markdown, plain
text, HTML. Images, widgets and scripts have no text; how many there were is noted. Formats 2 to 4 are read.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.json_layout import read_json
from embedfleet.parsing.text import whole_text
from embedfleet.visible_text import letters_in

_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]|\x1b\][^\x07\x1b]{0,300}(?:\x07|\x1b\\)")
_BACKTICKS = re.compile(r"^\s*(`{3,})", re.MULTILINE)
_IMAGE_DATA = re.compile(r"data:[\w.+-]{1,40}/[\w.+-]{1,80}(?:;[\w=.-]{1,60})*;base64,[A-Za-z0-9+/=\s%]*")
# The names of outputs in format 3, which format 4 replaced by media types.
_OLD_NAMES = {
    "text": "text/plain",
    "html": "text/html",
    "latex": "text/latex",
    "json": "application/json",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "svg": "image/svg+xml",
    "javascript": "application/javascript",
}
_TEXT_FORMS = ("text/markdown", "text/plain", "text/latex", "application/json")
_DEFAULT_LANGUAGE = "python"  # of format 3, which does not say

Json = Mapping[str, Any]


def read_notebook(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the cells. Holds the notebook in memory twice. A file that is no JSON is laid out as it is."""
    decoding = Draft(draft.write)
    try:
        document = json.loads(whole_text(stream, decoding))
    except (ValueError, RecursionError):
        draft.note(Code.NOTEBOOK_BROKEN)
        stream.seek(0)
        return read_json(stream, draft)
    if not isinstance(document, dict) or not _has_cells(document):
        raise ParseError("is not a notebook (it has no cells): give it the suffix .json, or leave it out")
    draft.account.include(decoding.account.account)
    _Notebook(document, draft).write()
    return "markdown"


def _has_cells(document: Json) -> bool:
    return isinstance(document.get("cells"), list) or isinstance(document.get("worksheets"), list)


class _Notebook:
    def __init__(self, document: Json, draft: Draft) -> None:
        self._document = document
        self._draft = draft
        self._language = _language(document)
        metadata = _mapping(document.get("metadata"))
        title = metadata.get("title") or metadata.get("name")
        draft.title = " ".join(_clean(title).split()) or None if isinstance(title, str) else None

    def write(self) -> None:
        count = 0
        for count, cell in enumerate(self._cells(), 1):
            self._cell(cell, f"cell {count}")
        self._draft.found("cells", count)

    def _cells(self) -> Iterator[Json]:
        sheets = self._document.get("worksheets") or [self._document]
        for sheet in sheets:
            cells = _mapping(sheet).get("cells")
            yield from (_mapping(cell) for cell in (cells if isinstance(cells, list) else ()))

    def _cell(self, cell: Json, place: str) -> None:
        kind = cell.get("cell_type")
        source = _joined(cell.get("source", cell.get("input")))
        for name in _mapping(cell.get("attachments")):
            self._draft.note(Code.IMAGE, place=f"{place}: {_clean(name)}")
        if kind == "code":
            language = cell.get("language")
            self._paragraph(_fenced(source, language if isinstance(language, str) else self._language))
            outputs = cell.get("outputs")
            for output in outputs if isinstance(outputs, list) else ():
                self._output(_mapping(output), place)
        elif kind == "heading":
            level = cell.get("level")
            hashes = "#" * (min(max(level, 1), 6) if isinstance(level, int) else 1)
            self._paragraph(f"{hashes} {' '.join(source.split())}" if source.strip() else "")
        else:
            self._paragraph(self._without_images(source, place))

    def _output(self, output: Json, place: str) -> None:
        kind = output.get("output_type")
        if kind == "stream":
            self._paragraph(_fenced(_terminal_text(_joined(output.get("text")))))
        elif kind in ("error", "pyerr"):
            trace = _terminal_text("\n".join(map(_joined, _list(output.get("traceback")))))
            message = f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
            self._paragraph(_fenced(trace if trace.strip() else message))
        else:
            data = output.get("data")
            old = {_OLD_NAMES[name]: value for name, value in output.items() if name in _OLD_NAMES}
            self._forms(_mapping(data) if data is not None else old, place)

    def _forms(self, forms: Json, place: str) -> None:
        """Write the best form of an output, and note the images of it."""
        for name in forms:
            if name.startswith(("image/", "video/", "audio/")) or name == "application/pdf":
                self._draft.note(Code.IMAGE, place=place)
            elif name.startswith("application/") and name != "application/json":
                self._draft.note(Code.NOTEBOOK_WIDGET, place=f"{place}: {_clean(name)[:80]}")
        html = _joined(forms.get("text/html"))
        best = next((name for name in _TEXT_FORMS if name in forms), None)
        if html and ("<table" in html.lower() or best is None):
            self._html(html, place)
        elif best == "text/markdown":
            self._paragraph(self._without_images(_joined(forms[best]), place))
        elif best is not None:
            self._paragraph(_fenced(_terminal_text(_joined(forms[best]))))

    def _html(self, html: str, place: str) -> None:
        from embedfleet.parsing.html import read_html  # takes 100 ms, and few notebooks need it

        pieces: list[str] = []
        part = self._draft.part(pieces.append)
        read_html(io.BytesIO(codecs.BOM_UTF8 + html.encode()), part)
        part.finish()
        self._draft.account.include(part.account.account, place=place)
        self._paragraph("".join(pieces))

    def _without_images(self, text: str, place: str) -> str:
        """The text without the data of images that are written into it."""
        if "base64," not in text:
            return text
        found = _IMAGE_DATA.findall(text)
        chars = sum(map(letters_in, found))
        self._draft.note(Code.IMAGE, count=len(found), chars=chars, place=place)
        return _IMAGE_DATA.sub("", text)

    def _paragraph(self, text: str) -> None:
        if text.strip():
            self._draft.write(text.strip("\n") + "\n\n")


def _language(document: Json) -> str:
    metadata = _mapping(document.get("metadata"))
    for section, name in (("language_info", "name"), ("kernelspec", "language")):
        if isinstance(found := _mapping(metadata.get(section)).get(name), str) and found.strip():
            return found.strip().lower()
    return _DEFAULT_LANGUAGE


def _fenced(text: str, language: str = "") -> str:
    """The text in a code block whose fence is longer than any in the text; "" if it is blank."""
    text = text.strip("\n")
    if not text.strip():
        return ""
    longest = max((len(match) for match in _BACKTICKS.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{_clean(language)}\n{text}\n{fence}"


def _terminal_text(text: str) -> str:
    """The text as a terminal shows it at the end: without colours, and each line as it was last written."""
    lines = _TERMINAL_CODE.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _joined(value: object) -> str:
    """A text, which may be a list of its lines."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return _clean("".join(piece for piece in value if isinstance(piece, str)))
    return "" if value is None else _clean(json.dumps(value, ensure_ascii=False))


def _clean(text: str) -> str:
    """Without NUL and halves of surrogate pairs, which escapes in JSON may give."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
