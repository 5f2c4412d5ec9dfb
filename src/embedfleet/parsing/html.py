"""HTML: converts the body of a page to Markdown, without navigation, header, footer and scripts.

selectolax (lexbor) parses the page as a browser does, this module removes what is not body text, and
kreuzberg converts the rest. Links lose their targets and emphasis its marks, as neither helps an embedding.
If pruning would leave no text, the page is not pruned. If the conversion would lose text, the text is kept
without layout. So body text is never lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from selectolax.lexbor import LexborHTMLParser, LexborNode

from embedfleet.account import Code
from embedfleet.parsing.conversion import convert
from embedfleet.parsing.decoding import known_codec
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.text import whole_text

_PRESCAN_BYTES = 4096
_DECLARED = re.compile(
    rb"""(?:<meta[^>]+charset|<\?xml[^>]+encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)

# Never body text, in any place. The text of controls belongs to the user interface.
_NOT_TEXT = (
    "head, script, style, template, noscript, iframe, object, embed, svg, canvas, audio, video, "
    "input, button, select, textarea, datalist, annotation, annotation-xml, "
    '[hidden]:not([hidden="until-found"]), [aria-hidden="true"]'
)
# What the author has marked as navigation; then the class names that common manual generators use.
_NAVIGATION = ", ".join(
    (
        'nav, [role="navigation"], [role="search"], [role="banner"], [role="contentinfo"]',
        '[role="menu"], [role="menubar"], [role="toolbar"]',
        "a.headerlink, a.viewcode-link, a.viewcode-back, span.viewcode-link",  # Sphinx, mkdocs
        "div.related, div.sphinxsidebar, body > div.footer, div.mobile-nav, div.rst-versions",
        ".prev-next-footer, .bd-sidebar-primary, .bd-sidebar-secondary",  # pydata theme
        ".md-sidebar, .md-header, .md-footer, .md-tabs, .md-skip, .md-content__button",  # mkdocs-material
        "div.navheader, div.navfooter, ul.docnav",  # DocBook: xsl stylesheets, publican
        "body > #banner, body > p#title",
        'div.nav-panel, div.header:has(a[rel="up"])',  # texinfo
        'table.navigation, table[summary^="Navigation"]',  # gtk-doc, valgrind
        "div.topNav, div.subNav, div.bottomNav, p.legalCopy",  # javadoc before 17
        "#MSearchSelectWindow, #MSearchResultsWindow, #side-nav, #nav-path, address.footer",  # doxygen
        "a.skip-link, a.skip-nav, a.skip-to-content",
    )
)
_MAIN = 'main, [role="main"]'
_SECTIONING = frozenset({"article", "section", "main", "blockquote", "td", "th", "figure", "li", "details"})
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
_PREFORMATTED_OR_SPACE = re.compile(r"(<pre\b.*?</pre>)|[ \t\n\r\f]+", re.DOTALL)
# Replaces the backslashes of the page during the conversion, to tell them from the converter's escapes.
_BACKSLASH = "\U0010fff0"


def read_html(stream: BinaryIO, draft: Draft) -> ContentType:
    """Write the body of the page. Holds the page and its tree, about ten times its size, in memory."""
    source = whole_text(stream, draft, declared=_declared_encoding(stream))
    html = _SELF_CLOSED.sub(r"<\1\2></\1>", source)
    tree = LexborHTMLParser(html, scripting=True)
    body = _body(tree) or _body(LexborHTMLParser(html, scripting=True), prune=False)
    if body is None:
        return "markdown"
    markdown = _markdown(body)
    if markdown is None:
        draft.note(Code.HTML_LAYOUT)
        markdown = body.text(separator="\n")
    draft.write(markdown)
    return "markdown"


def _declared_encoding(stream: BinaryIO) -> str | None:
    declared = _DECLARED.search(stream.read(_PRESCAN_BYTES))
    return known_codec(declared.group(1).decode("ascii", "replace")) if declared else None


def _body(tree: LexborHTMLParser, *, prune: bool = True) -> LexborNode | None:
    """The element with the body text, prepared for the conversion; None if it has no text."""
    _remove(tree, _NOT_TEXT)
    if tree.body is None:
        return None
    if prune:
        _remove(tree, _NAVIGATION)
        for node in reversed(tree.css("header, footer, aside")):  # innermost first, as in `_remove`
            if _is_page_furniture(node):
                node.decompose()
    body = _main_element(tree) or tree.body
    _flatten(body)
    return body if _letters(body.text()) else None


def _remove(tree: LexborHTMLParser, selector: str) -> None:
    # Innermost first, as removing a node frees the nodes inside of it. Each once, as `css` lists a node again
    # for each part of the selector that matches it.
    for node in reversed({node.mem_id: node for node in tree.css(selector)}.values()):
        node.decompose()


def _is_page_furniture(node: LexborNode) -> bool:
    """Whether a header, footer or aside belongs to the page and not to a section.

    A header with pandoc's id has the title and the abstract, so it is body text. An aside is body text unless
    it consists mostly of links.
    """
    if node.id == "title-block-header" or any(parent.tag in _SECTIONING for parent in _ancestors(node)):
        return False
    return node.tag != "aside" or 2 * _link_letters(node) >= _letters(node.text())


def _main_element(tree: LexborHTMLParser) -> LexborNode | None:
    """The page's main element, if it has exactly one, and that has most of the text that is not linked."""
    outermost = [node for node in tree.css(_MAIN) if not _has_main_ancestor(node)]
    if len(outermost) != 1 or tree.body is None:
        return None
    main = outermost[0]
    unlinked = _letters(tree.body.text()) - _link_letters(tree.body)
    return main if 2 * (_letters(main.text()) - _link_letters(main)) >= unlinked else None


def _has_main_ancestor(node: LexborNode) -> bool:
    return any(_is_main(ancestor) for ancestor in _ancestors(node))


def _is_main(node: LexborNode) -> bool:
    return node.tag == "main" or node.attributes.get("role") == "main"


def _ancestors(node: LexborNode) -> Iterator[LexborNode]:
    while (parent := node.parent) is not None:
        yield parent
        node = parent


def _flatten(body: LexborNode) -> None:
    """Remove permalinks, unwrap links and emphasis, and replace images by their descriptions."""
    for link in body.css('a[href^="#"]'):
        if link.text().strip() in _PERMALINK_TEXTS:
            link.decompose()
    for image in body.css("a img"):  # logos, buttons, thumbnails
        image.decompose()
    for image in body.css("img"):
        image.replace_with(image.attributes.get("alt") or "")
    body.unwrap_tags(_INLINE_TAGS, delete_empty=True)
    body.merge_text_nodes()


def _markdown(body: LexborNode) -> str | None:
    """The element as Markdown; None if the converter has lost letters of it.

    The converter silently leaves out what is nested deeper than about 64 elements.
    """
    html = _PREFORMATTED_OR_SPACE.sub(lambda match: match.group(1) or " ", body.html or "")
    source = f"<html>{html}</html>".replace("\\", _BACKSLASH)
    markdown = convert(source.encode(), "text/html").replace(_BACKSLASH, "\\")
    lost = Counter(filter(str.isalpha, body.text())) - Counter(filter(str.isalpha, markdown))
    return None if lost else markdown


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _link_letters(node: LexborNode) -> int:
    return sum(_letters(link.text()) for link in node.css("a"))
