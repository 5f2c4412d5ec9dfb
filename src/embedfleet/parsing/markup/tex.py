"""TeX: headings by their commands; comments and the preamble are left out, formulas stay as they are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import BinaryIO

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.markup.page import Page
from embedfleet.parsing.text import whole_text

_VERBATIM = r"verbatim\*?|Verbatim|lstlisting|minted|alltt|BVerbatim|code"
_KEPT = re.compile(
    rf"\\begin\{{(?P<env>{_VERBATIM}|comment)\}}"
    r"|\\verb\*?(?P<sign>[^\w\s])(?P<verb>[^\n]{0,300}?)(?P=sign)"
    r"|^[ \t]*(?P<line>%[^\n]*\n)|(?<!\\)(?P<rest>%[^\n]*)",
    re.MULTILINE,
)
_FORMULA = re.compile(
    r"\$\$[^$]{1,5000}?\$\$|(?<!\\)\$(?:[^$\\\n]|\\.|\n(?!\n)){1,5000}?\$"
    r"|\\\((?:(?!\\\()[^$]){1,5000}?\\\)|\\\[(?:(?!\\\[)[^$]){1,5000}?\\\]",
    re.DOTALL,
)
_DISPLAYED = re.compile(
    r"\\begin\{(?P<env>(?:equation|align|gather|multline|eqnarray|displaymath|math|flalign|alignat)\*?)\}"
)
_ARGUMENT = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
"""What stands in braces, which may have braces of two more levels in them."""
_OPTIONS = r"(?:\[[^\]\n]*\])?"
_LEVELS = ("part", "chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph")
_SECTION = re.compile(rf"\\({'|'.join(_LEVELS)})\*?{_OPTIONS}\s*{_ARGUMENT}")
_TITLE = re.compile(rf"\\title{_OPTIONS}\s*{_ARGUMENT}")
_METADATA = re.compile(rf"\\(author|date|subtitle|keywords){_OPTIONS}\s*{_ARGUMENT}")
_TABLE = re.compile(r"\\begin\{(?P<env>tabular[xy*]?|longtable|supertabular|tabu)\}")
_COLUMNS = re.compile(rf"\s*(?:\[[^\]]*\])?(?:\s*{_ARGUMENT}){{1,2}}")
_RULES = re.compile(
    r"\\(?:hline|toprule|midrule|bottomrule|endhead|endfoot|endfirsthead|endlastfoot|cline\{[^}]*\}"
    r"|cmidrule(?:\([^)]*\))?\{[^}]*\})"
)
_OTHER_FILE = re.compile(r"\\(?:input|include|subfile|subfileinclude|import\{[^}]*\})\s*\{([^}]*)\}")
# Commands of which a reader of the page sees nothing of what stands in the braces.
_UNSEEN = re.compile(
    rf"\\(?:label|index|cite\w*|nocite|parencite|textcite|ref|eqref|pageref|autoref|cref|Cref|vspace\*?|hspace\*?"
    rf"|includegraphics|bibliography|bibliographystyle|usepackage|documentclass|pagestyle|thispagestyle|setlength"
    rf"|setcounter|addtocounter|hypersetup|graphicspath|newcommand|renewcommand|addcontentsline|input)\*?"
    rf"(?:{_OPTIONS}){{0,2}}\s*{_ARGUMENT}"
)
_LINK = re.compile(rf"\\href\s*{_ARGUMENT}\s*{_ARGUMENT}")
_NOTE = re.compile(rf"\\(?:footnote|thanks|marginpar){_OPTIONS}\s*{_ARGUMENT}")
_ITEM = re.compile(
    r"(?:\n[ \t]{0,40})?\\item\b\s*(?:\[([^\]]*)\])?[ \t]*|\\bibitem(?:\[[^\]]*\])?\{[^}]*\}[ \t]*"
)
_OPTIONS_OF_CODE = re.compile(r"^[ \t]*(?:\[[^\]\n]*\])?(?:\{[^}\n]*\})?[ \t]*\n")
_END_OF_ROW = re.compile(r"\\\\(?:\[[^\]\n]*\])?|\\tabularnewline\b")
_NEXT_CELL = re.compile(r"(?<!\\)&")
_LINE_BREAK = re.compile(r"\\\\\*?(?:\[[^\]\n]{0,20}\])?")
_OPENING_BRACE, _CLOSING_BRACE = "\U000ffff0", "\U000ffff1"
_BEGIN_OR_END = re.compile(r"\\(?:begin|end)\s*\{[\w*]+\}(?:\[[^\]\n]*\])?")
_ACCENT = re.compile(r"\\([`'^\"~=.]|[uvHcdbkr](?![A-Za-z]))\s*(?:\{\s*(\\?[A-Za-z])\s*\}|(\\?[A-Za-z]))")
_COMBINING = "\u0300\u0301\u0302\u0308\u0303\u0304\u0307\u0306\u030c\u030b\u0327\u0323\u0331\u0328\u030a"
_MARKS = dict(zip("`'^\"~=.uvHcdbkr", _COMBINING, strict=True))
_LETTERS = {
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "aa": "å", "AA": "Å", "l": "ł",
    "L": "Ł", "i": "ı", "j": "ȷ", "ldots": "…", "dots": "…", "textbackslash": "\\",
    "LaTeX": "LaTeX",
    "TeX": "TeX", "textasciitilde": "~", "textasciicircum": "^", "S": "§", "P": "¶", "copyright": "©",
    "textendash": "–", "textemdash": "—", "pounds": "£", "euro": "€", "textbar": "|", "quad": " ",
    "qquad": " ",
    "par": "\n\n", "newline": "\n", "linebreak": "\n",
}  # fmt: skip
_COMMAND = re.compile(rf"\\([A-Za-z@]+)\*?(?:[ \t]*{_OPTIONS}(?=\{{)|[ \t]?)")
_ESCAPED = re.compile(r"\\([%&_#$])")
_SPACES = re.compile(r"\\[,;:!> /-]|(?<!\\)~")
_QUOTES = (("``", "“"), ("''", "”"), ("---", "—"), ("--", "–"))
_BLANKS = re.compile(r" {2,}")
_SAVED = "\U000f0000"
"""The first of the characters of private use that stand for what is kept as it is."""
_MOST_SAVED = 60_000


def read_tex(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the document as Markdown. Holds its text in memory."""
    _Reader(whole_text(stream, draft)).read().write(draft)
    return "markdown"


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._page = Page()
        self._saved: list[Callable[[], None] | str] = []
        """What stands for each character of private use: a text, or what writes code or a heading."""

    def read(self) -> Page:
        text = _replaced(self._source, _KEPT, self._keep)
        text = self._without_preamble(text)
        text = _replaced(text, _DISPLAYED, self._formula)
        text = _FORMULA.sub(lambda formula: self._save(" ".join(formula[0].split())), text)
        text = _OTHER_FILE.sub(self._other_file, text)
        text = _replaced(text, _TABLE, self._table)
        used = {found[1] for found in _SECTION.finditer(text)}
        levels = [name for name in _LEVELS if name in used]
        text = _SECTION.sub(lambda section: self._section(section, levels), text)
        for line in _plain(text).split("\n"):
            self._line(line)
        return self._page

    def _save(self, kept: Callable[[], None] | str) -> str:
        """Return a character that stands for what is kept as it is."""
        if len(self._saved) >= _MOST_SAVED:
            return kept if isinstance(kept, str) else ""
        self._saved.append(kept)
        return chr(ord(_SAVED) + len(self._saved) - 1)

    def _keep(self, found: re.Match[str], inner: str) -> str:
        """Take comments out, and code, which has no commands."""
        if found["verb"] is not None:
            return self._save(f"`{found['verb']}`")
        if found["env"] is None or found["env"] == "comment":
            self._page.leave_out(Code.MARKUP_COMMENT, found["line"] or found["rest"] or inner)
            return ""
        code = _OPTIONS_OF_CODE.sub("", inner, count=1).split("\n")
        return f"\n\n{self._save(lambda: self._page.code(code))}\n\n"

    def _without_preamble(self, text: str) -> str:
        """The document; what stands before and after it has its title and settings."""
        before, begin, body = text.partition("\\begin{document}")
        if not begin:
            before, body = "", text
        body, _, after = body.partition("\\end{document}")
        title = _TITLE.search(text)
        if title:
            self._page.title = " ".join(_plain(title[1]).split())
            self._page.text(f"title: {self._page.title}")
        for name, value in _METADATA.findall(text):
            self._page.text(f"{name}: {' '.join(_plain(value).split())}")
        self._page.blank()
        for setting in (_METADATA.sub("", _TITLE.sub("", before)), after):
            if setting.strip():
                self._page.leave_out(Code.MARKUP_SETTING, setting)
        return _METADATA.sub("", _TITLE.sub("", body))

    def _formula(self, begin: re.Match[str], inner: str) -> str:
        lines = (begin[0] + inner + _end_of(begin)).split("\n")
        return self._save("\n".join(line.rstrip() for line in lines if line.strip()))

    def _other_file(self, found: re.Match[str]) -> str:
        self._page.leave_out(Code.OTHER_FILE, found[1])
        return ""

    def _section(self, section: re.Match[str], levels: list[str]) -> str:
        level, title = levels.index(section[1]) + 1, " ".join(_plain(section[2]).split())
        return f"\n\n{self._save(lambda: self._page.heading(level, self._restored(title)))}\n\n"

    def _table(self, _: re.Match[str], inner: str) -> str:
        columns = _COLUMNS.match(inner)
        body = _RULES.sub("", inner[columns.end() :] if columns else inner)
        rows = [row for row in _END_OF_ROW.split(body) if row.strip()]
        cells = [[_plain(cell) for cell in _NEXT_CELL.split(row)] for row in rows]
        return f"\n\n{self._save(lambda: self._rows(cells))}\n\n"

    def _rows(self, rows: list[list[str]]) -> None:
        for number, row in enumerate(rows):
            self._page.row([self._restored(cell) for cell in row], first=number == 0)

    def _line(self, line: str) -> None:
        """Write a line; what stands alone in it may be code, a heading or a table."""
        kept = self._kept(line.strip())
        if kept is not None and not isinstance(kept, str):
            self._page.blank()
            kept()
            self._page.blank()
        else:
            self._page.text(_BLANKS.sub(" ", self._restored(line.strip())))

    def _kept(self, character: str) -> Callable[[], None] | str | None:
        at = ord(character) - ord(_SAVED) if len(character) == 1 else -1
        return self._saved[at] if 0 <= at < len(self._saved) else None

    def _restored(self, text: str) -> str:
        """The text with what was kept as it is."""
        if text.isascii():
            return text
        kept = ((character, self._kept(character)) for character in text)
        return "".join(one if isinstance(one, str) else character for character, one in kept)


def _replaced(text: str, begin: re.Pattern[str], replace: Callable[[re.Match[str], str], str]) -> str:
    """Replace what `begin` finds, with all up to the end of the environment that begins there, if one does.

    Takes linear time, also if nothing ends many environments.
    """
    pieces: list[str] = []
    at = start = 0
    endless: set[str] = set()
    while found := begin.search(text, at):
        at = found.end()
        inner = ""
        if found["env"] is not None:
            end = -1 if found["env"] in endless else text.find(_end_of(found), at)
            if end < 0:
                endless.add(found["env"])
                continue
            inner = text[at:end]
            at = end + len(_end_of(found))
        pieces += [text[start : found.start()], replace(found, inner)]
        start = at
    return "".join(pieces) + text[start:]


def _end_of(begin: re.Match[str]) -> str:
    return f"\\end{{{begin['env']}}}"


def _plain(text: str) -> str:
    """Text without commands and braces."""
    text = _LINK.sub(r"\2", _NOTE.sub(r" (\1)", _UNSEEN.sub("", text)))
    text = _ITEM.sub(lambda item: f"\n- {item[1]}: " if item[1] else "\n- ", text)
    text = _BEGIN_OR_END.sub("\n", text)
    text = _LINE_BREAK.sub("\n", text)
    text = _ACCENT.sub(_accented, text)
    text = _SPACES.sub(" ", text)
    text = text.replace("\\{", _OPENING_BRACE).replace("\\}", _CLOSING_BRACE)
    text = _ESCAPED.sub(r"\1", _COMMAND.sub(lambda command: _LETTERS.get(command[1], ""), text))
    for written, meant in _QUOTES:
        text = text.replace(written, meant)
    text = text.replace("{", "").replace("}", "")
    return text.replace(_OPENING_BRACE, "{").replace(_CLOSING_BRACE, "}")


def _accented(accent: re.Match[str]) -> str:
    mark, letter = accent[1], (accent[2] or accent[3]).removeprefix("\\")
    return unicodedata.normalize("NFC", letter + _MARKS[mark]) if mark in _MARKS else letter
