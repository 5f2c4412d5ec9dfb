"""A page's body comes out whole, its navigation, header, footer and scripts do not.

The oracle is another parser (the standard library's) that takes the text of the element which the
page's generator marks as body; compared are multisets of words. It judges pages made here after the
structure of each generator, and ten real pages of installed manuals (Debian's `python3-doc`,
`postgresql-doc`, `debian-handbook`; `MANUALS_DIR` names a folder they were unpacked to).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from embedfleet.account import Account
from embedfleet.parsing.html import read_html
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.settings import ParsingSettings
from integration.parsing_pages import DOCBOOK_PAGE, HTML5_PAGE, MKDOCS_PAGE, SPHINX_PAGE
from support.reading import read_with

Attributes = dict[str, str | None]


@dataclass(frozen=True)
class Marks:
    """How a generator marks its pages' body, and what in it is not body all the same."""

    body: Callable[[str, Attributes], bool]
    chrome: Callable[[str, Attributes], bool]


def _classes(attributes: Attributes) -> set[str]:
    return set((attributes.get("class") or "").split())


SPHINX = Marks(
    body=lambda tag, attributes: attributes.get("role") == "main",
    chrome=lambda tag, attributes: tag == "nav" or "headerlink" in _classes(attributes),
)
DOCBOOK = Marks(
    body=lambda tag, attributes: tag == "body",
    chrome=lambda tag, attributes: bool(_classes(attributes) & {"navheader", "navfooter"}),
)
PUBLICAN = Marks(
    body=lambda tag, attributes: tag == "body",
    chrome=lambda tag, attributes: (
        "docnav" in _classes(attributes) or attributes.get("id") in ("banner", "title")
    ),
)
MKDOCS = Marks(
    body=lambda tag, attributes: tag == "article",
    chrome=lambda tag, attributes: bool(_classes(attributes) & {"headerlink", "md-content__button"}),
)
PLAIN_HTML5 = Marks(
    body=lambda tag, attributes: tag == "body",
    chrome=lambda tag, attributes: attributes.get("data-test") == "chrome",
)


class Oracle(HTMLParser):
    """Collects the text of the body, that around it, and drops what is no text."""

    _VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta", "wbr"})
    _INSIDE_WORDS = frozenset(
        {"a", "abbr", "b", "cite", "code", "del", "em", "i", "kbd", "q", "samp", "small", "span", "strong"}
    ) | {"sub", "tt", "u", "var", "wbr"}
    _NOT_TEXT = frozenset({"script", "style", "template", "noscript", "head", "svg", "button", "select"})

    def __init__(self, marks: Marks) -> None:
        super().__init__(convert_charrefs=True)
        self._marks = marks
        self._open = [("", "around")]
        self._text: dict[str, list[str]] = {"body": [], "around": [], "chrome": [], "dropped": []}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._separate(tag)
        if tag not in self._VOID:
            self._open.append((tag, self._place(tag, dict(attrs))))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self._VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self._separate(tag)
        matching = [i for i, (opened, _) in enumerate(self._open) if opened == tag]
        if matching:
            del self._open[matching[-1] :]

    def handle_data(self, data: str) -> None:
        self._text[self._open[-1][1]].append(data)

    def body_words(self) -> Counter[str]:
        return words("".join(self._text["body"]))

    def other_words(self) -> set[str]:
        """Words that stand only outside of the body. Numbers aside: lists bring some along."""
        others = words("".join(self._text["around"] + self._text["chrome"]))
        return {word for word in others.keys() - self.body_words().keys() if not word.isdigit()}

    def _separate(self, tag: str) -> None:
        if tag not in self._INSIDE_WORDS:
            self.handle_data(" ")

    def _place(self, tag: str, attributes: Attributes) -> str:
        outer = self._open[-1][1]
        if outer in ("dropped", "chrome"):
            return outer
        if tag in self._NOT_TEXT:
            return "dropped"
        if self._marks.chrome(tag, attributes):
            return "chrome"
        return "body" if self._marks.body(tag, attributes) else outer


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def assert_body_and_nothing_else(page: str, marks: Marks, markdown: str) -> None:
    oracle = Oracle(marks)
    oracle.feed(page)
    oracle.close()
    assert oracle.body_words(), "the oracle found no body"
    found = words(markdown.replace("`", ""))
    assert oracle.body_words() - found == Counter(), "body text is missing"
    assert oracle.other_words() & found.keys() == set(), "text from around the body came along"


def read(page: str) -> tuple[str, Account]:
    document = read_with(read_html, page.encode())
    return document.text, document.account


@pytest.mark.parametrize(
    ("page", "marks"),
    [(SPHINX_PAGE, SPHINX), (DOCBOOK_PAGE, DOCBOOK), (MKDOCS_PAGE, MKDOCS), (HTML5_PAGE, PLAIN_HTML5)],
    ids=["sphinx", "docbook", "mkdocs", "html5"],
)
def test_the_body_of_each_generators_page_comes_out_whole_and_alone(page: str, marks: Marks) -> None:
    assert_body_and_nothing_else(page, marks, read(page)[0])


TEN_PAGES = [
    ("python3*/html/library/functions.html", SPHINX),
    ("python3*/html/library/asyncio.html", SPHINX),
    ("python3*/html/library/logging.html", SPHINX),
    ("python3*/html/howto/descriptor.html", SPHINX),
    ("postgresql-doc-*/html/sql-select.html", DOCBOOK),
    ("postgresql-doc-*/html/ddl-partitioning.html", DOCBOOK),
    ("postgresql-doc-*/html/datatype-numeric.html", DOCBOOK),
    ("debian-handbook/html/en-US/existing-setup.html", PUBLICAN),
    ("debian-handbook/html/en-US/sect.virtualization.html", PUBLICAN),
    ("debian-handbook/html/en-US/sect.apt-get.html", PUBLICAN),
]


@pytest.mark.parametrize(("pattern", "marks"), TEN_PAGES, ids=[pattern for pattern, _ in TEN_PAGES])
async def test_the_body_of_a_real_manual_page_comes_out_whole_and_alone(pattern: str, marks: Marks) -> None:
    root = Path(os.environ.get("MANUALS_DIR", "/")) / "usr/share/doc"
    pages = sorted(root.glob(pattern))
    if not pages:
        pytest.skip(f"no {root / pattern}: install the manual or set MANUALS_DIR")
    async with ParserSandbox(ParsingSettings()) as sandbox:
        document = await sandbox.parse(pages[0])
    assert document.account.warnings == ()
    assert_body_and_nothing_else(pages[0].read_text(encoding="utf-8"), marks, document.text)


def test_headings_code_tables_and_lists_keep_their_form() -> None:
    markdown, _ = read(SPHINX_PAGE)
    assert "# `bisect` — Sorting\n" in markdown
    assert '```\n>>> x_y = "*"\n    indented <tag>\n```' in markdown
    assert "| a_b | long |\n| --- | --- |\n| 1*2 | wide cell |" in markdown


def test_links_and_emphasis_leave_their_words_and_nothing_else() -> None:
    markdown, _ = read(SPHINX_PAGE)
    assert "The key_word argument unbroken of insort() `cd` into it." in markdown
    assert "x.html" not in markdown


def test_backslashes_of_the_page_are_kept_and_none_are_added() -> None:
    markdown, _ = read(
        r"<p>Write \* or <code>a\_b</code>, a_b * 2.</p><table><tr><td>C:\_x a_b *</td></tr></table>"
    )
    assert markdown == "Write \\* or `a\\_b`, a_b * 2.\n\n| C:\\_x a_b * |\n| --- |\n"


def test_an_image_is_its_description_unless_it_is_a_link() -> None:
    markdown, _ = read(
        '<p>See <img src="a.png" alt="the plan">.</p><a href="/"><img alt="logo" src="l.png"></a>'
    )
    assert markdown == "See the plan.\n"


def test_what_stands_around_the_main_element_is_not_body() -> None:
    assert (
        read("<div>Site map and news</div><main><p>The text of the page.</p></main>")[0]
        == "The text of the page.\n"
    )


def test_an_aside_is_left_out_only_if_it_is_mostly_links() -> None:
    assert read("<p>Text.</p><aside>A remark.</aside>")[0] == "Text.\n\nA remark.\n"
    assert read("<p>Text.</p><aside>See <a href='x'>other pages</a></aside>")[0] == "Text.\n"


def test_text_outside_of_a_main_element_that_holds_little_is_kept() -> None:
    markdown, _ = read(
        "<main><p>Teaser.</p></main><div>" + "<p>The long text of the page.</p>" * 3 + "</div>"
    )
    assert "The long text of the page." in markdown


@pytest.mark.parametrize("tag", ["title", "script src='x'", "style", "nav"])
def test_an_xhtml_element_closed_in_its_tag_swallows_nothing(tag: str) -> None:
    assert read(f"<html><head><{tag}/></head><body><p>Body text.</p></body></html>")[0] == "Body text.\n"


def test_a_page_that_is_nothing_but_navigation_is_kept() -> None:
    assert read("<nav><ul><li>Chapter one</li></ul></nav>")[0] == "- Chapter one\n"


def test_text_nested_too_deep_for_markdown_is_kept_without_layout() -> None:
    markdown, account = read("<h1>Top</h1>" + "<div>" * 500 + "deep text" + "</div>" * 500 + "<p>end</p>")
    assert words(markdown) == words("Top deep text end")
    assert "too deep" in account.warnings[0]


@pytest.mark.parametrize(
    "declaration",
    [
        '<meta charset="windows-1251">',
        '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">',
    ],
)
def test_the_encoding_a_page_declares_is_used(declaration: str) -> None:
    page = f"<html><head>{declaration}<title>Я</title></head><body><p>Привет</p></body></html>"
    document = read_with(read_html, page.encode("windows-1251"))
    assert (document.text, document.account) == ("Привет\n", Account())
