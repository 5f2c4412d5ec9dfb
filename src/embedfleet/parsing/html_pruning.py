"""Decides what of a page is no content of it: menus, page headers and footers, hidden elements, controls.

Tags, roles and class names only make an element a candidate; what is in it decides. A header with the page's
headline, a footer with notes that the text refers to, and any block with a sentence of its own are content.
Whatever is pruned is noted in the account.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.html_nodes import ancestors, link_letters, outermost
from embedfleet.visible_text import letters_in

# No text of the page, or text that is shown only where scripts do not run.
_NOT_TEXT = "head, script, style, template, noscript, noframes, canvas, datalist, rp, param, source, track"
_EMBEDDED = "iframe, object, embed, audio, video"
_CONTROLS = 'input, select, textarea, progress, meter, [role="search"], [role="slider"], [role="spinbutton"]'
# What may be furniture: what authors mark as such, then what common generators of manuals call it.
_CANDIDATES = ", ".join(
    (
        'nav, [role="navigation"], [role="banner"], [role="contentinfo"], [role="complementary"]',
        '[role="menu"], [role="menubar"], [role="toolbar"], [role="dialog"], [role="alertdialog"]',
        "header, footer, aside",
        "a.headerlink, a.viewcode-link, a.viewcode-back, span.viewcode-link",  # Sphinx, mkdocs
        "div.related, div.sphinxsidebar, body > div.footer, div.mobile-nav, div.rst-versions",
        ".prev-next-footer, .bd-sidebar-primary, .bd-sidebar-secondary",  # pydata theme
        ".md-sidebar, .md-header, .md-footer, .md-tabs, .md-skip, .md-content__button",  # mkdocs-material
        "div.navheader, div.navfooter, ul.docnav",  # DocBook: xsl stylesheets, publican
        "#banner, body > p#title",
        'div.nav-panel, div.header:has(a[rel="up"])',  # texinfo
        'table.navigation, table[summary^="Navigation"]',  # gtk-doc, valgrind
        "div.topNav, div.subNav, div.bottomNav, p.legalCopy",  # javadoc before 17
        "#MSearchSelectWindow, #MSearchResultsWindow, #side-nav, #nav-path, address.footer",  # doxygen
        ".breadcrumb, .breadcrumbs, #breadcrumb, #breadcrumbs, [aria-label='breadcrumb' i]",
        'ol[class*="breadcrumb"], ul[class*="breadcrumb"]',
        "#mw-navigation, #mw-panel, #footer, #catlinks, .noprint",  # MediaWiki
        "a.skip-link, a.skip-nav, a.skip-to-content",
    )
)
_ALWAYS = ", ".join(
    (
        "a.headerlink, a.viewcode-link, a.viewcode-back, span.viewcode-link, .mw-editsection, .mw-jump-link",
        "a.skip-link, a.skip-nav, a.skip-to-content, .md-skip, .md-content__button",
    )
)
"""Candidates that are furniture whatever they say."""

_BANNERS = '[id*="cookie"], [class*="cookie"], [id*="consent"], [class*="consent"]'
_BANNER_WORDS = re.compile(r"\b(accept|agree|allow|reject|consent)", re.IGNORECASE)
_BANNER_CHARS = 3000  # a whole page about cookies has more
_NAVIGATION = 'nav, [role="navigation"], [role="menu"], [role="menubar"], [role="toolbar"]'
_HEADINGS = "h1, h2, h3, h4, h5, h6"
_MAIN = 'main, [role="main"]'
_SECTIONING = frozenset({"article", "section", "main", "blockquote", "td", "th", "figure", "li", "details"})
_BLOCKS = "p, li, dd, dt, td, th, div, blockquote, pre, h1, h2, h3, h4, h5, h6, address, summary, figcaption"
_INLINE = frozenset(
    (
        *("a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "i", "ins", "kbd"),
        *("mark", "math", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "u", "var"),
    )
)
# What a site says of itself at the end of each page. A block with such words is furniture.
_BOILERPLATE = re.compile(
    r"©|\(c\) *\d{4}|copyright[ :]*(\d{4}|\(c\)|by\b)|all rights reserved|powered by|created using"
    r"|generated (by|on|with)|last (updated|modified|edited|changed)|terms of (use|service)"
    r"|creative commons|under the .{0,60}licen[cs]e",
    re.IGNORECASE,
)
# Words of the furniture, too, but only where little else is said: a sentence may be about them.
_SHORT_BOILERPLATE = re.compile(
    r"copyright|built with|made with|privacy|cookies?\b|licen[cs]e|subscribe|newsletter|sign up|log ?in"
    r"|javascript",
    re.IGNORECASE,
)
_SHORT_WORDS = 10
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"[.!?:;…。！？।؟][\s\"'”’)\]]*$")
_SENTENCE_WORDS = 5  # a menu's entry has fewer, or no full stop
_LONG_BLOCK_WORDS = 15  # a block of more words is prose without a full stop, too
_NO_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_REVEALED_CLASS = re.compile(
    r"tab|panel|accordion|collaps|toggle|spoiler|expand|reveal|faq|answer", re.IGNORECASE
)
_NEVER_REVEALED = re.compile(
    r"modal|popup|dialog|tooltip|cookie|consent|sr-only|menu|nav\b|dropdown|toast", re.I
)
_NOTE_MARK = re.compile(r"[\[(]?(\w{1,3}|[*†‡]{1,3})[\])]?")
_REFERRING = ("aria-controls", "data-target", "data-bs-target", "data-tab", "href", "for")
_WORDS_OF_A_PARAGRAPH = 4  # one that is marked as a paragraph says something with or without a full stop
_WORDS_OF_AN_ANSWER = 3  # of a hidden block after a heading: fewer words are those of a loading page
_ADMONITION = re.compile(
    r"\b(note|tip|hint|warning|caution|danger|important|info|admonition|callout)\b", re.IGNORECASE
)
_ENDS_OF_PAGES = 'header, footer, [role="banner"], [role="contentinfo"], #footer'
_UNSEEN = "body noscript, body template, body noframes"  # what a browser shows only if it can do little
_STYLE_OR_TAG = re.compile(r"<style\b.*?</style>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_QUESTIONS = frozenset(("h2", "h3", "h4", "h5", "h6", "dt", "summary"))
_HIDDEN = '[hidden], [aria-hidden="true"], [style]'


class Pruner:
    """Prunes one page. `is_chapter`: it is a chapter of a book, whose headers and footers are content."""

    def __init__(self, tree: LexborHTMLParser, draft: Draft, *, is_chapter: bool) -> None:
        self._tree = tree
        self._draft = draft
        self._is_chapter = is_chapter
        self._targets = _targets_of(tree)
        self._headlines = 0

    def drop_what_is_no_text(self, *, show_hidden: bool) -> None:
        """Remove scripts, styles, controls and embedded pages; and what is hidden for good, unless shown."""
        for node in self._tree.css(_UNSEEN):
            chars = letters_in(_STYLE_OR_TAG.sub(" ", node.inner_html or ""))
            self._draft.note(Code.HIDDEN, count=1 if chars else 0, chars=chars, place=node.tag)
        _remove(self._tree.css(_NOT_TEXT))
        for node in outermost(self._tree.css(_EMBEDDED)):
            self._prune(node, Code.HTML_EMBEDDED)
        for node in outermost(self._tree.css(_CONTROLS)):
            self._prune(node, Code.HTML_CONTROLS)
        for node in outermost([node for node in self._tree.css(_HIDDEN) if _is_hidden(node)]):
            if show_hidden or self._is_revealed(node):
                _show(node)
            else:
                self._prune(node, Code.HIDDEN)

    def drop_furniture(self) -> None:
        """Remove menus, and headers, footers and asides of the page without content."""
        _remove(self._tree.css(_ALWAYS))
        self._headlines = len(self._tree.css("h1"))
        for node in outermost([node for node in self._tree.css(_BANNERS) if _is_banner(node)]):
            self._prune(node, Code.HTML_NAVIGATION)
        if self._is_chapter:
            self._sift(self._tree.css(_NAVIGATION))
            return
        self._sift(self._tree.css(_CANDIDATES))
        main = _main_element(self._tree)
        if main is not None:
            self._sift(list(_around(main)))

    def _sift(self, candidates: list[LexborNode]) -> None:
        """Prune the candidates without content, and of the others what in them has none."""
        for node in outermost(candidates):
            if node.tag in ("header", "footer", "aside") and _is_in_section(node):
                continue
            if not self._has_content(node):
                self._prune(node, Code.HTML_NAVIGATION)
                continue
            inner = [one for one in node.css(_CANDIDATES) if one.mem_id != node.mem_id]
            for part in outermost(inner + _boilerplate_blocks(node) + _link_lists(node)):
                if not self._has_content(part):
                    self._prune(part, Code.HTML_NAVIGATION)

    def _has_content(self, node: LexborNode) -> bool:
        """Whether an element says something of its own: the headline, a note of the text, a sentence."""
        if any(one.id in self._targets.notes for one in node.css("[id]") if one.id):
            return True
        if node.css_first("h1") is not None and len(node.css("h1")) == self._headlines:
            return True
        if node.id == "title-block-header":  # pandoc: title, author, abstract
            return True
        if node.tag == "aside" and _ADMONITION.search(node.attributes.get("class") or ""):
            return bool(letters_in(node.text()))
        if node.tag == "aside" and 2 * link_letters(node) < letters_in(node.text()):
            return not _is_boilerplate(node.text())
        blocks = [node, *node.css(_BLOCKS)]
        texts = [(block.tag, _own_text(block)) for block in blocks]
        if any(_is_prose(text) for _, text in texts):
            return True
        paragraphs = [text for tag, text in texts if tag == "p" and _is_paragraph(text)]
        return bool(paragraphs) and 2 * link_letters(node) < letters_in(node.text())

    def _is_revealed(self, node: LexborNode) -> bool:
        """Whether a hidden element is text that the page shows when it is asked to, such as a tab's panel."""
        attributes = node.attributes
        name = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
        role = attributes.get("role") or ""
        if _NEVER_REVEALED.search(name) or role in ("dialog", "alertdialog", "tooltip", "menu"):
            return False
        if attributes.get("aria-hidden") == "true" and not _is_invisible(node):
            # It is seen, only not read aloud: an icon, or what is there twice.
            return letters_in(node.text()) > _SENTENCE_WORDS and "katex" not in name
        is_target = bool(node.id) and node.id in self._targets.all
        if is_target or role == "tabpanel" or _REVEALED_CLASS.search(name):
            return bool(letters_in(node.text()))
        return attributes.get("hidden") == "until-found" or _is_answer(node) or _says_much(node)

    def _prune(self, node: LexborNode, code: Code) -> None:
        chars = letters_in(node.text())
        if chars or code is Code.HTML_EMBEDDED:
            self._draft.note(code, chars=chars, place=_name(node))
        self._headlines -= len(node.css("h1"))
        node.decompose()


class _Targets:
    """The ids of a page that something on it points to. `notes`: those that a link in the text points to."""

    def __init__(self, all_ids: set[str], notes: set[str]) -> None:
        self.all = all_ids
        self.notes = notes


def _targets_of(tree: LexborHTMLParser) -> _Targets:
    every: set[str] = set()
    notes: set[str] = set()
    selector = ", ".join(f"[{name}]" for name in _REFERRING if name != "href")
    for node in tree.css(selector):
        for name in _REFERRING:
            every.update((node.attributes.get(name) or "").replace("#", "").split())
    for node in tree.css("[onclick]"):
        every.update(_WORD.findall(node.attributes.get("onclick") or ""))
    for link in tree.css('a[href^="#"]'):
        target = (link.attributes.get("href") or "")[1:]
        every.add(target)
        text = link.text().strip()
        # A reference to a note is short: a number, a star, a letter.
        if target and _NOTE_MARK.fullmatch(text) and not _is_in_navigation(link):
            notes.add(target)
    return _Targets(every, notes)


def _is_in_navigation(node: LexborNode) -> bool:
    return any(one.tag == "nav" or one.attributes.get("role") == "navigation" for one in ancestors(node))


def _is_hidden(node: LexborNode) -> bool:
    return _is_invisible(node) or node.attributes.get("aria-hidden") == "true"


def _is_invisible(node: LexborNode) -> bool:
    attributes = node.attributes
    return "hidden" in attributes or bool(_NO_STYLE.search(attributes.get("style") or ""))


def _show(node: LexborNode) -> None:
    """Remove what hides the element and elements in it, as the converter would leave them out."""
    for one in [node, *node.css(_HIDDEN)]:
        for name in ("hidden", "style", "aria-hidden"):
            if name in one.attributes:
                del one.attrs[name]


def _is_answer(node: LexborNode) -> bool:
    """Whether a hidden element follows a heading, as the answer to a question does."""
    before = node.prev
    while before is not None and not before.is_element_node:
        if (before.text_content or "").strip() and before.is_text_node:
            return False
        before = before.prev
    is_after_heading = before is not None and before.tag in _QUESTIONS
    return is_after_heading and len(_WORD.findall(node.text())) >= _WORDS_OF_AN_ANSWER


def _says_much(node: LexborNode) -> bool:
    """Whether a hidden element has a section of the page: a paragraph, or a heading and a sentence."""
    sentences = [text for block in [node, *node.css(_BLOCKS)] if _is_prose(text := _own_text(block))]
    if any(len(_WORD.findall(text)) >= _LONG_BLOCK_WORDS for text in sentences):
        return True
    return bool(sentences) and node.css_first(_HEADINGS) is not None


def _is_paragraph(text: str) -> bool:
    return len(_WORD.findall(text)) >= _WORDS_OF_A_PARAGRAPH and not _is_boilerplate(text)


def _link_lists(node: LexborNode) -> list[LexborNode]:
    """The lists of links in a header or footer of the page."""
    if not node.css_matches(_ENDS_OF_PAGES):
        return []
    return [one for one in node.css("ul, ol") if 10 * link_letters(one) >= 9 * letters_in(one.text())]


def _is_banner(node: LexborNode) -> bool:
    """Whether an element asks the reader to accept cookies."""
    text = node.text()
    return "cookie" in text.lower() and bool(_BANNER_WORDS.search(text)) and len(text) < _BANNER_CHARS


def _boilerplate_blocks(node: LexborNode) -> list[LexborNode]:
    return [block for block in node.css(_BLOCKS) if _is_boilerplate(_own_text(block))]


def _is_boilerplate(text: str) -> bool:
    return bool(
        _BOILERPLATE.search(text)
        or (_SHORT_BOILERPLATE.search(text) and len(_WORD.findall(text)) < _SHORT_WORDS)
    )


def _is_prose(text: str) -> bool:
    """Whether the text of a block, without that of its links, is a sentence."""
    words = len(_WORD.findall(text))
    if words < _SENTENCE_WORDS or _is_boilerplate(text):
        return False
    return words >= _LONG_BLOCK_WORDS or bool(_SENTENCE_END.search(text.rstrip()))


def _own_text(node: LexborNode) -> str:
    """The text of the element without that of blocks in it. Links count only if there is other text, too."""
    texts: list[str] = []
    linked = 0
    waiting = list(node.iter(include_text=True))[::-1]
    while waiting:
        child = waiting.pop()
        if child.is_text_node:
            texts.append(child.text_content or "")
        elif child.tag == "a":
            linked += len(child.text())
            texts.append(" ")
        elif child.tag in _INLINE:
            waiting += list(child.iter(include_text=True))[::-1]
        else:
            texts.append(" ")
    own = " ".join("".join(texts).split())
    return own if len(own) >= linked else ""


def _main_element(tree: LexborHTMLParser) -> LexborNode | None:
    """The page's main element, if it has exactly one, and that has most of the text that is not linked."""
    mains = outermost(tree.css(_MAIN))
    if len(mains) != 1 or tree.body is None:
        return None
    main = mains[0]
    unlinked = letters_in(tree.body.text()) - link_letters(tree.body)
    return main if 2 * (letters_in(main.text()) - link_letters(main)) >= unlinked else None


def _around(main: LexborNode) -> Iterator[LexborNode]:
    """The elements around the main one: all siblings of it and of the elements that hold it."""
    node = main
    while node.parent is not None and node.tag != "body":
        for sibling in node.parent.iter():
            if sibling.mem_id != node.mem_id:
                yield sibling
        node = node.parent


def _remove(nodes: list[LexborNode]) -> None:
    for node in outermost(nodes):
        node.decompose()


def _is_in_section(node: LexborNode) -> bool:
    return any(parent.tag in _SECTIONING for parent in ancestors(node))


def _name(node: LexborNode) -> str:
    """The element as a selector would name it, for the account."""
    first_class = next(iter((node.attributes.get("class") or "").split()), "")
    name = f"{node.tag}#{node.id}" if node.id else f"{node.tag}.{first_class}" if first_class else node.tag
    return str(name)[:40]
