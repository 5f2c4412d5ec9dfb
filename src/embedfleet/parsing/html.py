"""HTML: converts the body of a page to Markdown, without navigation, header, footer and scripts.

selectolax (lexbor) parses the page as a browser does. `html_pruning` removes what is no content,
`html_inline` and `html_tables` write what Markdown cannot say, and kreuzberg converts the rest. Links lose
their targets and emphasis its marks, as neither helps an embedding. If pruning would leave no text, the page
is not pruned. If the conversion would lose text, the text is kept without layout. So body text is never lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import BinaryIO

from selectolax.lexbor import LexborHTMLParser, LexborNode

from embedfleet.account_codes import Code
from embedfleet.parsing.conversion import convert
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.html_code import prepare_code
from embedfleet.parsing.html_controls import write_controls
from embedfleet.parsing.html_formulas import write_formulas
from embedfleet.parsing.html_images import write_images
from embedfleet.parsing.html_inline import write_marks_in_lines
from embedfleet.parsing.html_pruning import Pruner
from embedfleet.parsing.html_tables import prepare_tables
from embedfleet.parsing.text import whole_text

_PRESCAN_BYTES = 4096

_PERMALINK_TEXTS = frozenset("¶#§🔗⚓")
# Tags that only mark text inside of a line. They are unwrapped, as some begin or end inside of a word.
_INLINE_TAGS = [
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "data", "del", "dfn", "em", "font", "i"),
    *("ins", "label", "mark", "math", "nobr", "q", "s", "small", "span", "strike", "strong", "sub", "sup"),
    *("time", "u", "var", "wbr"),
]
# XHTML may close any element in its opening tag. An HTML parser would put all later text into it. An
# attribute without quotes may end with a slash, so the slash follows a quote, a blank or the name.
_SELF_CLOSED = re.compile(r"([a-zA-Z][\w:.-]*)((?:\s[^>]*[\s\"'])?)")
_NEVER_ENDED = frozenset(  # HTML knows no end of the first ones; the last ones, of drawings, have no text
    (
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source"),
        *("track", "wbr", "frame", "keygen"),
        *("path", "g", "use", "circle", "rect", "line", "polygon", "polyline", "ellipse"),
    )
)
_CHARACTER_DATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_XHTML = re.compile(r"\s*<\?xml\b|[^<]*(?:<![^>]*>[^<]*)*<html\b[^>]*\bxmlns\s*=", re.IGNORECASE)
# Outside of `pre`, white space means one space. The converter sometimes drops a line break after `code`.
_PREFORMATTED = re.compile(r"(<pre\b.*?</pre>)", re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r\f]{2,}|[\t\n\r\f]")  # what is not one space already
_SOFT_HYPHEN = "\xad"  # where a word may be broken at the end of a line: nothing that a reader sees
# Replaces the backslashes of the page during the conversion, to tell them from the converter's escapes.
_BACKSLASH = "\U0010fff0"


def read_html(stream: BinaryIO, draft: Draft, *, is_chapter: bool = False) -> ContentType:
    """Write the body of the page. Holds the page and its tree, about ten times its size, in memory.

    `is_chapter`: the page is a chapter of a book, whose headers and footers are content.
    """
    source = whole_text(stream, draft)
    html = _as_html(source)
    tree = LexborHTMLParser(html, scripting=True)
    if (without_frames := _without_frames(tree, draft)) is not None:
        html = without_frames
    heading = tree.css_first("head > title")
    title = "" if heading is None else " ".join(heading.text().split())
    if without_frames is not None:
        tree = LexborHTMLParser(html, scripting=True)
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
    draft.write(markdown.replace(_SOFT_HYPHEN, ""))
    return "markdown"


def _without_frames(tree: LexborHTMLParser, draft: Draft) -> str | None:
    """The text of a page of frames for those who cannot show them; None if the page has no frames."""
    if tree.css_first("frameset") is None:
        return None
    for frame in tree.css("frame"):
        draft.note(Code.HTML_EMBEDDED, place=(frame.attributes.get("src") or "frame")[:40])
    alternative = tree.css_first("noframes")
    return "" if alternative is None else alternative.text()


def _as_html(source: str) -> str:
    """The page with what only XML knows written as HTML: elements closed in their tags, character data."""
    if _XHTML.match(source[:_PRESCAN_BYTES]):
        source = _CHARACTER_DATA.sub(lambda data: escape(data[1], quote=False), source)
    return "".join(_with_ends(source))


def _with_ends(source: str) -> Iterator[str]:
    """The page in pieces, with an end after each element that is closed in its tag."""
    done = 0
    while (end := source.find("/>", done)) >= 0:
        start = source.rfind("<", done, end)
        tag = _SELF_CLOSED.fullmatch(source, start + 1, end) if start >= 0 else None
        if tag is None or tag[1].lower() in _NEVER_ENDED:
            yield source[done : end + 2]
        else:
            yield f"{source[done:end]}></{tag[1]}>"
        done = end + 2
    yield source[done:]


def title_unless_said(title: str, markdown: str) -> str | None:
    """The title of the page, unless its text begins with it."""
    beginning = " ".join(markdown[: 2 * len(title) + 200].replace("#", "").split())
    return title if title and title not in beginning else None


def _body(tree: LexborHTMLParser, draft: Draft, *, is_chapter: bool, prune: bool = True) -> LexborNode | None:
    """The body, prepared for the conversion; None if it has no text."""
    attempt = Draft(draft.write)
    pruner = Pruner(tree, attempt, is_chapter=is_chapter)
    if tree.body is not None:
        _write_as_text(tree, tree.body, attempt)
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


def _write_as_text(tree: LexborHTMLParser, body: LexborNode, draft: Draft) -> None:
    """Make text of what the converter does not know, before anything is pruned."""
    write_controls(tree, body, draft)
    write_formulas(body)
    write_images(body, draft)
    write_marks_in_lines(body)
    prepare_code(tree, body)


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
