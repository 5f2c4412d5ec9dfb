"""HTML: converts the body of a page to Markdown, without navigation, header, footer and scripts.

selectolax (lexbor) parses the page as a browser does. `html_pruning` removes what is no content,
`html_inline` and `html_tables` write what Markdown cannot say, and kreuzberg converts the rest. Links lose
their targets and emphasis its marks, as neither helps an embedding. If pruning would leave no text, the page
is not pruned. If the conversion would lose text, the text is kept without layout. So body text is never lost.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import BinaryIO

from selectolax.lexbor import LexborHTMLParser, LexborNode

from embedfleet.account import Code
from embedfleet.parsing.conversion import convert
from embedfleet.parsing.decoding import known_codec
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.html_inline import write_marks
from embedfleet.parsing.html_pruning import Pruner
from embedfleet.parsing.html_tables import prepare_tables
from embedfleet.parsing.text import whole_text

_PRESCAN_BYTES = 4096
_DECLARED = re.compile(
    rb"""(?:<meta[^>]+charset|<\?xml[^>]+encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)

_PERMALINK_TEXTS = frozenset("¶#§🔗⚓")
# Tags that only mark text inside of a line. They are unwrapped, as some begin or end inside of a word.
_INLINE_TAGS = [
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "data", "del", "dfn", "em", "font", "i"),
    *("ins", "label", "mark", "math", "nobr", "q", "s", "small", "span", "strike", "strong", "sub", "sup"),
    *("time", "u", "var", "wbr"),
]
# XHTML may close these elements in their opening tag. An HTML parser would put all later text into them.
_SELF_CLOSED = re.compile(
    r"<(title|script|style|template|noscript|iframe|object|svg|canvas|audio|video|button|select|textarea|nav)"
    r"\b([^<>]*)/>",
    re.IGNORECASE,
)
# Outside of `pre`, white space means one space. The converter sometimes drops a line break after `code`.
_PREFORMATTED = re.compile(r"(<pre\b.*?</pre>)", re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r\f]{2,}|[\t\n\r\f]")  # what is not one space already
# Replaces the backslashes of the page during the conversion, to tell them from the converter's escapes.
_BACKSLASH = "\U0010fff0"


def read_html(stream: BinaryIO, draft: Draft, *, is_chapter: bool = False) -> ContentType:
    """Write the body of the page. Holds the page and its tree, about ten times its size, in memory.

    `is_chapter`: the page is a chapter of a book, whose headers and footers are content.
    """
    source = whole_text(stream, draft, declared=_declared_encoding(stream))
    html = _SELF_CLOSED.sub(r"<\1\2></\1>", source)
    tree = LexborHTMLParser(html, scripting=True)
    heading = tree.css_first("head > title")
    title = "" if heading is None else " ".join(heading.text().split())
    body = _body(tree, draft, is_chapter=is_chapter)
    if body is None:
        tree = LexborHTMLParser(html, scripting=True)
        body = _body(tree, draft, is_chapter=is_chapter, prune=False)
    if body is None:
        return "markdown"
    markdown = _markdown(body)
    if markdown is None:
        draft.note(Code.HTML_LAYOUT)
        markdown = body.text(separator="\n")
    if not is_chapter:
        draft.title = title_unless_said(title, markdown)
    draft.write(markdown)
    return "markdown"


def title_unless_said(title: str, markdown: str) -> str | None:
    """The title of the page, unless its text begins with it."""
    beginning = " ".join(markdown[: 2 * len(title) + 200].replace("#", "").split())
    return title if title and title not in beginning else None


def _declared_encoding(stream: BinaryIO) -> str | None:
    declared = _DECLARED.search(stream.read(_PRESCAN_BYTES))
    return known_codec(declared.group(1).decode("ascii", "replace")) if declared else None


def _body(tree: LexborHTMLParser, draft: Draft, *, is_chapter: bool, prune: bool = True) -> LexborNode | None:
    """The body, prepared for the conversion; None if it has no text."""
    attempt = Draft(draft.write)
    pruner = Pruner(tree, attempt, is_chapter=is_chapter)
    write_marks(tree, attempt)
    pruner.drop_what_is_no_text(show_hidden=not prune)
    if prune:
        pruner.drop_furniture()
    if tree.body is None or not any(map(str.isalnum, tree.body.text())):
        if not prune:
            draft.account.include(attempt.account.account)
        return None
    prepare_tables(tree, tree.body)
    _flatten(tree.body)
    draft.account.include(attempt.account.account)
    return tree.body


def _flatten(body: LexborNode) -> None:
    """Remove permalinks, and unwrap links and emphasis."""
    for link in body.css('a[href^="#"]'):
        if link.text().strip() in _PERMALINK_TEXTS:
            link.decompose()
    body.unwrap_tags(_INLINE_TAGS, delete_empty=True)
    body.merge_text_nodes()


def _markdown(body: LexborNode) -> str | None:
    """The element as Markdown; None if the converter has lost letters of it.

    The converter silently leaves out what is nested deeper than about 64 elements.
    """
    pieces = _PREFORMATTED.split(body.html or "")
    pieces[::2] = [_SPACE.sub(" ", piece) for piece in pieces[::2]]
    html = "".join(pieces)
    source = f"<html>{html}</html>".replace("\\", _BACKSLASH)
    markdown = convert(source.encode(), "text/html").replace(_BACKSLASH, "\\")
    lost = Counter(body.text()) - Counter(markdown)
    return None if any(map(str.isalpha, lost)) else markdown
