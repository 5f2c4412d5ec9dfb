"""What a page says is in its text, whatever element says it; what is left out is in the account."""

from __future__ import annotations

import pytest

from embedfleet.account_codes import Code, Effect
from embedfleet.parsing.formats import ParsedDocument
from embedfleet.parsing.html import read_html
from support.reading import read_with

SENTENCE = "The ringer had been dismissed in January for drinking."
NOTE = "The ringer had been"


def read(body: str, head: str = "") -> ParsedDocument:
    return read_with(
        read_html, f"<!doctype html><html><head>{head}</head><body>{body}</body></html>".encode()
    )


def text_of(body: str) -> str:
    return read(body).text


@pytest.mark.parametrize(
    "body",
    [
        f"<p>It rang.</p><footer><p>{SENTENCE}</p></footer>",
        f'<p>It rang<a href="#n">1</a>.</p><footer><ol><li id="n">{NOTE}</li></ol></footer>',
        f"<header><h1>{NOTE}</h1></header><main><p>It rang.</p><h2>Later</h2></main>",
        f"<header><p class='lede'>{SENTENCE}</p></header><p>It rang.</p>",
        f'<div class="related"><p>{SENTENCE}</p></div><p>It rang.</p>',
        f'<div id="banner"><h1>{NOTE}</h1></div><p>It rang.</p>',
        f'<div role="contentinfo"><p>{SENTENCE}</p><p>© 2024 The mill.</p></div><p>It.</p>',
        f'<div role="tablist"><button role="tab" aria-controls="b">B</button></div>'
        f'<div role="tabpanel" id="b" hidden>{SENTENCE}</div><p>It rang.</p>',
        f'<a href="#more" data-toggle="collapse">+</a><div id="more" style="display: none">{SENTENCE}</div>',
        f'<i onclick="flip(\'x1\')">show</i><div id="x1" style="display:none">{SENTENCE}</div><p>It.</p>',
        f"<details><summary>Why?</summary><p>{SENTENCE}</p></details>",
        f"<p>It rang.</p><section hidden><h2>Windows</h2><p>{SENTENCE}</p></section>",
        f"<dl><dt><button>Why did it ring?</button></dt><dd hidden>{NOTE}</dd></dl>",
        f"<p>It rang.</p><div class='related'><h2>Related work</h2><p>{NOTE}</p></div>",
        f"<p>It rang.</p><aside class='note'><p>Note: <a href='x'>{SENTENCE}</a></p></aside>",
        f"<header><h1>Mill</h1><p>How the privacy of the mill was broken: {NOTE}</p></header><p>It.</p>",
        f"<textarea>{SENTENCE}</textarea><p>It rang.</p>",
        f'<p>It rang.</p><input value="{SENTENCE}">',
        f'<p>It rang.</p><img src="x" title="{SENTENCE}">',
        f'<p>It rang.</p><p aria-hidden="true">{SENTENCE}</p>',
        f"<nav><a href='a'>Home</a><p>{SENTENCE}</p></nav><p>It rang.</p>",
        f"<main><p>It rang again and again in the night.</p></main><div class='note'><p>{SENTENCE}</p></div>",
    ],
    ids=lambda body: str(body)[:30],
)
def test_text_is_kept_wherever_it_stands(body: str) -> None:
    assert NOTE in text_of(body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("<nav><ul><li><a href='a'>Home</a></li></ul></nav>", Code.HTML_NAVIGATION),
        (
            "<footer>© 2024 The mill. All rights reserved. See the licence for more.</footer>",
            Code.HTML_NAVIGATION,
        ),
        ("<header><a href='/'>The mill</a> <span>since 1701</span></header>", Code.HTML_NAVIGATION),
        ('<div id="cookie-bar">We use cookies. <b>Accept all of them now.</b></div>', Code.HTML_NAVIGATION),
        ("<div style='display:none'>SECRET words of a template.</div>", Code.HIDDEN),
        (
            '<div class="modal" id="m" hidden>SECRET words to log in.</div>',
            Code.HIDDEN,
        ),
        ("<select><option>January</option><option>May</option></select>", Code.HTML_CONTROLS),
        ("<button>Send</button>", Code.HTML_CONTROLS),
        ('<button type="submit">Send it now?</button>', Code.HTML_CONTROLS),
        ('<ol class="breadcrumb"><li><a href="/">Home</a></li><li>Wheel</li></ol>', Code.HTML_NAVIGATION),
        ('<div class="related"><h3>More</h3><a href="a">Mills of the valley</a></div>', Code.HTML_NAVIGATION),
        ("<noscript><p>Please enable JavaScript</p></noscript>", Code.HIDDEN),
        ("<p hidden>Loading...</p>", Code.HIDDEN),
        ('<iframe src="x"></iframe>', Code.HTML_EMBEDDED),
        ('<img src="plan.png">', Code.IMAGE),
    ],
)
def test_what_is_no_content_is_left_out_and_said(body: str, code: Code) -> None:
    document = read(f"<h1>Mill</h1>{body}<p>The wheel turned all night.</p>")
    assert document.text == "# Mill\n\nThe wheel turned all night.\n"
    (entry,) = document.account.entries
    assert entry.code is code
    assert entry.effect is not Effect.LOST


def test_nothing_of_a_plain_page_is_in_its_account() -> None:
    assert read("<h1>Mill</h1><p>It <b>turned</b>.</p><script>x()</script>").account.entries == ()


def test_a_footer_with_a_note_loses_its_links_and_keeps_the_note() -> None:
    document = read(
        '<p>It cost 5<a href="#s">*</a>.</p><footer><p id="s">* without tax</p>'
        "<ul><li><a href='i'>Imprint</a></li></ul></footer>"
    )
    assert document.text == "It cost 5[*].\n\n* without tax\n"
    assert [entry.code for entry in document.account.entries] == [Code.HTML_NAVIGATION]


def test_a_page_of_frames_is_what_it_says_without_them() -> None:
    page = (
        b"<html><head><title>F</title></head><frameset><frame src='a.html'><frame src='b.html'>"
        b"<noframes><body><h1>Mill</h1><p>It rang.</p></body></noframes></frameset></html>"
    )
    document = read_with(read_html, page)
    assert (document.text, document.title) == ("# Mill\n\nIt rang.\n", "F")
    (entry,) = document.account.entries
    assert (entry.code, entry.places) == (Code.HTML_EMBEDDED, ("a.html", "b.html"))


def test_a_hidden_block_costs_no_heading_and_no_layout() -> None:
    document = read("<h1>A</h1><p>One.</p><h2>B</h2><p>Two.</p><div style='visibility:hidden'>SECRET</div>")
    assert document.text == "# A\n\nOne.\n\n## B\n\nTwo.\n"
    assert [entry.code for entry in document.account.entries] == [Code.HIDDEN]


@pytest.mark.parametrize(
    "button",
    [
        "<h2><button>How often?</button></h2>",
        "<button>How often?</button>",
        '<button aria-expanded="false">How often?</button>',
        '<div role="button" aria-controls="a">How often?</div>',
        "<details><summary>How often?</summary></details>",
        '<input type="checkbox" id="c"><label for="c">How often?</label>',
        '<button class="accordion"><span>How often?</span></button>',
    ],
)
def test_a_button_that_shows_an_answer_is_the_heading_of_it(button: str) -> None:
    assert text_of(f"<h1>FAQ</h1>{button}<div id='a'>Every Friday.</div>") == (
        "# FAQ\n\n## How often?\n\nEvery Friday.\n"
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>10<sup>6</sup> and 10<sup>-4</sup> and x<sup>n+1</sup></p>", "10^6 and 10^-4 and x^(n+1)"),
        ('<p>rung<sup><a href="#f">1</a></sup> <sup>2</sup></p>', "rung[1] [2]"),
        ('<p>rung<a href="#f">1</a>, <a epub:type="noteref" href="n.html#f">*</a></p>', "rung[1], [*]"),
        ("<p>the 1<sup>st</sup> M<sup>me</sup> Mill<sup>TM</sup></p>", "the 1st Mme MillTM"),
        ("<p>H<sub>2</sub>O, x<sub>i</sub>, a<sub>n+1</sub></p>", "H2O, x_i, a_(n+1)"),
        (
            "<p><del>12 florins</del> <ins>15 florins</ins>, <s>$100</s> $80</p>",
            "~~12 florins~~ 15 florins, ~~$100~~ $80",
        ),
        ("<del><p>12 florins</p></del>", "~~12 florins~~"),
        ("<p><strike>12</strike><s> 13 </s>14</p>", "~~12~~ ~~13~~ 14"),
        ('<p><span style="text-decoration:line-through">12</span> 14</p>', "~~12~~ 14"),
        ('<p>10<span style="vertical-align: super">6</span></p>', "10^6"),
        (
            "<p><sup>14</sup>C, e<sup>ix</sup>, 5 m<sup>2</sup>, 101<sub>2</sub></p>",
            "^14C, e^ix, 5 m^2, 101_2",
        ),
        (
            "<p>bell<sup>1</sup> rang.<sup>2,3</sup> n<sup>th</sup> N<sup>o</sup></p>",
            "bell[1] rang.[2,3] nth No",
        ),
        ('<p id="n">It rang. <a href="#r">↩</a></p>', "It rang."),
        ("<p>wa&shy;ter</p>", "water"),
        ("<blockquote cite='http://x'>It rang.</blockquote>", "> It rang."),
        ('<div role="heading" aria-level="3">Gate</div>', "### Gate"),
        ("<p>He said <q>no</q>.</p>", "He said “no”."),
        ("<p><ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby></p>", "漢(kan)"),
        ("<p>E=<math><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup></math></p>", "E=mc^2"),
        (
            "<p><math><mfrac><mn>1</mn><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow></mfrac></math></p>",
            "1/(a + b)",
        ),
        ("<p><math><msqrt><mi>x</mi></msqrt></math></p>", "√(x)"),
        ('<p><math alttext="x^2"><mi>x</mi></math></p>', "$x^2$"),
        (
            '<p><math><semantics><mi>x</mi><annotation encoding="application/x-tex">\\frac{x}{2}'
            "</annotation></semantics></math></p>",
            "$\\frac{x}{2}$",
        ),
        ('<p>so <script type="math/tex">a_b</script> is</p>', "so $a_b$ is"),
        ("<svg><title>icon</title><text>Inlet</text><text>Outlet</text></svg>", "Inlet Outlet"),
        ('<p><a href="b.png"><img alt="the plan of the mill"></a></p>', "the plan of the mill"),
    ],
)
def test_marks_in_a_line_keep_their_meaning(body: str, text: str) -> None:
    assert text_of(body).strip() == text


def test_code_in_a_table_keeps_its_lines_and_loses_their_numbers() -> None:
    table = "<table><tr><td><pre>1\n2</pre></td><td><pre>def f(n):\n\treturn n</pre></td></tr></table>"
    assert text_of(table).strip() == "```\ndef f(n):\n\treturn n\n```"


@pytest.mark.parametrize(
    "code",
    [
        "<table class=highlight><tr><td class=blob-num data-line-number='1'></td><td class=blob-code>a"
        "</td></tr><tr><td class=blob-num data-line-number='2'></td><td class=blob-code> b</td></tr></table>",
        "<table><tr><td class=gutter><pre>1<br>2</pre></td>"
        "<td class=code><pre>a<br> b</pre></td></tr></table>",
        "<table><tr><td class=gutter><div>1</div><div>2</div></td><td class=code><div class=line>a</div>"
        "<div class=line>&nbsp;b</div></td></tr></table>",
        "<pre><span class=lineno>1 </span>a\n<span class=lineno>2 </span> b</pre>",
    ],
    ids=["a row a line", "line breaks", "an element a line", "numbers in the lines"],
)
def test_lines_of_code_are_lines_however_they_are_laid_out(code: str) -> None:
    assert text_of(code).strip() == "```\na\n b\n```"


def test_a_tab_names_its_panel() -> None:
    tabs = "".join(f'<li><a role="tab" href="#{one}">{one.upper()}</a></li>' for one in "ab")
    panels = "".join(f'<div role="tabpanel" id="{one}" hidden><p>install {one}</p></div>' for one in "ab")
    assert text_of(f"<ul>{tabs}</ul>{panels}").strip() == "A:\n\ninstall a\n\nB:\n\ninstall b"


def test_a_cell_that_spans_rows_is_in_each_of_them() -> None:
    table = (
        "<table><tr><th>mill</th><th>year</th></tr><tr><td rowspan='2'>lower</td><td>1701</td></tr>"
        "<tr><td>1702</td></tr><tr><td>upper</td><td>1703</td></tr></table>"
    )
    rows = text_of(table).strip().splitlines()[2:]
    assert rows == ["| lower | 1701 |", "| lower | 1702 |", "| upper | 1703 |"]


def test_a_table_that_lays_out_a_page_is_no_table() -> None:
    table = "<table><tr><th>a</th></tr><tr><td>b</td></tr></table>"
    page = f"<table><tr><td><h1>Mill</h1><p>One.</p>{table}</td></tr></table>"
    assert text_of(page) == "# Mill\n\nOne.\n\n| a |\n| --- |\n| b |\n"


@pytest.mark.parametrize(
    ("title", "body", "expected"),
    [
        ("The mill", "<p>It turned.</p>", "The mill"),
        ("The mill", "<h1>The mill</h1><p>It turned.</p>", None),
        ("", "<p>It turned.</p>", None),
    ],
)
def test_the_title_is_told_unless_the_text_begins_with_it(
    title: str, body: str, expected: str | None
) -> None:
    assert read(body, f"<title>{title}</title>").title == expected


def test_headers_and_footers_of_a_chapter_are_content() -> None:
    page = (
        b"<html><body><header><h1>CHAPTER ONE</h1><p>water has no memory</p></header><p>It rang.</p>"
        b"<footer>end of the first chapter</footer></body></html>"
    )
    chapter = read_with(lambda stream, draft: read_html(stream, draft, is_chapter=True), page)
    assert chapter.text == "# CHAPTER ONE\n\nwater has no memory\n\nIt rang.\n\nend of the first chapter\n"


@pytest.mark.parametrize(
    "nested", ["<nav>", "<table><tr><td>", "<sup>", "<div hidden>", "<button>", "<math><mrow>"]
)
def test_a_page_that_is_nested_deep_is_read_in_little_time(nested: str) -> None:
    """The sandbox would end it after a minute of CPU; here the test's own limit does."""
    document = read(nested * 1500 + SENTENCE + "<p>It rang.</p>")
    assert "It rang." in document.text or document.account.entries
