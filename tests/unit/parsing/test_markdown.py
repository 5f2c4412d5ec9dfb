"""Markdown: front matter is metadata, comments are not text, and code stays as it is."""

from __future__ import annotations

import pytest

from embedfleet.account import Account
from embedfleet.account_codes import Code
from embedfleet.parsing.formats import Format, ParsedDocument
from support.reading import heading_at, read_as


def _read(data: str) -> ParsedDocument:
    document = read_as(Format.MARKDOWN, data.encode())
    assert document.content_type == "markdown"
    return document


@pytest.mark.parametrize(
    "front",
    [
        "---\n# settings of this page\ntitle: Pump manual\ndraft: false\n---\n",
        "---\ntitle: 'Pump manual'   # shown in the menu\n\ndraft: false\n...\n",
        '---\ntitle: "Pump manual"\ntags: [gate, "weir, north"]\n---\n',
        '+++\n# comment\ntitle = "Pump manual"\n[params]\nweight = 3\n+++\n',
        '+++\ntitle = "Pump manual"\nabout = """\n# no heading\nof the page"""\n+++\n',
        '{\n  "title": "Pump manual",\n  "tags": ["# gate"]\n}\n',
        "---\ntitle: >-\n  Pump manual\nabout: |\n  # no heading\n  text\n---\n",
        "---\ntitle: Pump manual\n"
        + "".join(f"key_{i}: value {i}\n# comment {i}\n" for i in range(900))
        + "---\n",
        "---\ntitle: Pump manual\nauthors:\n- Ines Moor\n- name: Jan Pollak\n  # comment\nodd line of it\n"
        "a: 1\nb: 2\nc: 3\n---\n",
    ],
    ids=lambda front: front[:40],
)
def test_front_matter_is_metadata_of_any_length(front: str) -> None:
    document = _read(f"{front}\nBody text without heading.\n\n## Section\n\nMore.\n")
    assert document.title == "Pump manual"
    assert heading_at(document, "Body text") == ()
    assert heading_at(document, "More.") == ("Section",)
    assert "title: Pump manual" in document.text.replace("title:\n  ", "title: ")
    assert "comment" not in document.text
    assert not set(document.text.split()) & {"---", "...", "+++", "{", "}"}
    assert document.text.endswith("\n\nBody text without heading.\n\n## Section\n\nMore.\n")


def test_the_human_text_of_front_matter_stays_and_its_comments_are_said() -> None:
    document = _read(
        "---\n# a comment\nauthors:\n  - name: 'Ines O''Moor'\ntags: [gate, \"weir\"]\n"
        "summary: |\n  # One.\n  Two.\ndate: 2024-01-05\nlink: https://x.org/a#b\n---\nText.\n"
    )
    assert document.text == (
        "authors:\n  - name: Ines O'Moor\ntags: gate, weir\nsummary:\n  One.\n  Two.\ndate: 2024-01-05\n"
        "link: https://x.org/a#b\n\nText.\n"
    )
    (entry,) = document.account.entries
    assert (entry.code, entry.count) == (Code.MARKUP_COMMENT, 1)


@pytest.mark.parametrize("heading", ["# Pump manual\n", "Pump manual\n===\n"])
def test_a_title_that_is_the_first_heading_is_not_said_twice(heading: str) -> None:
    assert _read(f"---\ntitle: Pump manual\n---\n{heading}\nText.\n").title is None


@pytest.mark.parametrize(
    "page",
    [
        "---\n\n# Title\ntext\n\n---\n\nmore\n",
        "---\nJust prose between two rules, and nothing: really.\n---\n",
        "---\nopen: never closed\n\n# Heading\n",
        "Text.\n\n---\na: b\n---\n",
        "{ not: json\n",
    ],
)
def test_what_is_no_front_matter_stays(page: str) -> None:
    document = _read(page)
    assert (document.text, document.title, document.account) == (page, None, Account())


def test_comments_are_no_text_and_no_headings() -> None:
    document = _read(
        "# Guide\n\n\t# code after a tab\n\n"
        "One.<!-- in line --> Two.\n\n<!--\n# heading in a comment\n```\n-->\n\n"
        "{/* # of MDX */}\n\n[//]: # (and this one)\n[comment]: <> (or this)\n\n"
        "## Shallow again\n\nshallow text\n"
    )
    assert heading_at(document, "shallow text") == ("Guide", "Shallow again")
    assert "One. Two." in document.text
    assert not any(
        word in document.text for word in ("comment", "in line", "MDX", "this one", "or this", "`")
    )
    (entry,) = document.account.entries
    assert (entry.code, entry.count) == (Code.MARKUP_COMMENT, 5)


@pytest.mark.parametrize(
    "page",
    [
        "```html\n<!-- a -->\n```\n",
        "~~~\n<!-- a -->\n```\n<!-- b -->\n~~~\n",
        "- item\n  ```\n  <!-- a -->\n  ```\n",
        "> ```\n> <!-- a -->\n> ```\n",
        "Write `<!-- a -->` or ``<!-- ` -->``.\n",
        "Code:\n\n    <!-- a -->\n",
        "```\n<!-- never closed\n",
        "The sign <!-- begins a comment, and {/* too.\n",
        "Text ``` of ticks `\n",
        "[^1]: A footnote. [1]: text of an odd line\n",
        "[note]: this line is text, as it has several words\n",
        "```\n[1]: https://x.org\n```\n",
    ],
)
def test_code_and_what_only_looks_like_a_comment_stay(page: str) -> None:
    document = _read(page)
    assert (document.text, document.account) == (page, Account())


def test_a_comment_in_a_list_is_left_out() -> None:
    assert _read("- one\n\n    <!-- a -->two\n").text == "- one\n\n    two\n"


def test_the_addresses_of_links_are_left_out_and_said() -> None:
    document = _read(
        'See [the gate][1].\n\n[1]: https://x.org/a "The gate"\n'
        "[two]: <../b.md>\n[img]: data:image/png;base64,iVBO\n"
    )
    assert document.text == "See [the gate][1].\n\n"
    (entry,) = document.account.entries
    assert (entry.code, entry.count) == (Code.LINK_TARGET, 3)


def test_many_signs_that_nothing_closes_take_linear_time() -> None:
    page = "<!-- `a ``b {/* " * 100_000
    assert _read(page).text == page


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            "<details>\n<summary><b>More</b> of it</summary>\n\nHidden *text*.\n\n</details>\n",
            "\n\n\nMore of it\n\n\n\nHidden *text*.\n\n\n",
        ),
        ('<h1 align="center">\n  <img src="a.png" alt="Logo">\n  Mill\n</h1>\n', "\n\n# Logo Mill\n\n\n"),
        ('<p align="center"><a href="x"><img src="a" alt=\'A &amp; B\'/></a> text</p>\n', "A & B text\n"),
        ("one<br>two<br/>\n", "one\ntwo\n\n"),
        ("| a<br>b | c |\n|---|---|\n", "| a b | c |\n|---|---|\n"),
    ],
)
def test_the_html_in_a_page_is_read_as_what_it_means(page: str, text: str) -> None:
    assert _read(page).text == text


@pytest.mark.parametrize(
    "page",
    [
        "Write `<div>` or ``a ` <p>``, List<String> and <https://x.org>.\n",
        "```html\n<div>\n```\n",
        "x<sup>2</sup> and H<sub>2</sub>O\n",
        "<table><tr><td>a</td></tr></table>\n",
        "a < b and b > c, <unknown>\n",
    ],
)
def test_what_is_no_markup_or_has_a_meaning_stays(page: str) -> None:
    assert _read(page).text == page
