"""XML is read by its text: no tags, no entities, nothing from outside the file, and nothing of it lost."""

from __future__ import annotations

import pytest

from embedfleet.account_codes import Code, Effect
from embedfleet.parsing.formats import Format, ParsedDocument
from support.reading import heading_at, read_as


def _read(data: str, encoding: str = "utf-8") -> ParsedDocument:
    return read_as(Format.XML, data.encode(encoding))


def _codes(document: ParsedDocument) -> dict[Code, int]:
    return {entry.code: entry.count for entry in document.account.entries}


def test_a_feed_is_read_as_headings_and_the_text_of_its_html() -> None:
    document = _read(
        '<?xml version="1.0"?><rss version="2.0"><channel><title>Mill news</title><link>http://x.org/</link>'
        "<item><title>Flood &amp;amp; ice</title><dc:creator>Ines Moor</dc:creator>"
        "<guid>http://x.org/1</guid>"
        "<description>&lt;p&gt;The water came at &lt;b&gt;two&lt;/b&gt; in the "
        "morning.&lt;/p&gt;</description></item>"
        "<item><title>Next</title><content:encoded><![CDATA[<ul><li>One<li>Two &amp; 3</ul>A<br>B"
        '<script>x()</script><img src="a.png" alt="the gate">]]></content:encoded></item></channel></rss>'
    )
    assert document.content_type == "markdown"
    assert document.text == (
        "# Mill news\n\n## Flood & ice\n\ncreator: Ines Moor\n\nThe water came at two in the morning.\n\n"
        "## Next\n\n- One\n- Two & 3\n\nA\nB the gate\n"
    )
    assert heading_at(document, "The water") == ("Mill news", "Flood & ice")
    assert _codes(document) == {Code.LINK_TARGET: 2}


def test_an_atom_feed_keeps_the_text_of_xhtml() -> None:
    document = _read(
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>F</title><entry><title>E</title>'
        '<category term="Flood"/><link href="http://x.org"/><content type="xhtml"><div><p>Hi '
        "<em>you</em>.</p>"
        "<pre># a\n  b</pre></div></content></entry></feed>"
    )
    assert document.text == "# F\n\n## E\n\nFlood\n\nHi you.\n\n```\n# a\n  b\n```\n"


def test_docbook_has_sections_lists_tables_and_code() -> None:
    document = _read(
        '<!DOCTYPE book [<!ENTITY mill "Upper Mill">]><book><bookinfo><title>Guide</title></bookinfo>'
        "<chapter><title>Gate</title><para>The &mill;&rsquo;s <emphasis>big</emphasis> gate<footnote>"
        "<para>Not "
        "small.</para></footnote>&nbsp;is 10<superscript>6</superscript>&#xA0;m.</para><section>"
        "<title>Deep</title>"
        "<itemizedlist><listitem><para>One</para></listitem></itemizedlist>"
        "<programlisting># no heading\n  x &lt; y</programlisting>"
        "<note><title>Careful</title><para>Hot.</para></note><table><title>Sizes</title><tgroup><thead><row>"
        "<entry>A</entry><entry>B</entry></row></thead><tbody><row><entry><para>1</para></entry>"
        "<entry>2</entry>"
        "</row></tbody></tgroup></table></section></chapter><chapter><title>Weir</title>"
        "<para>End.</para></chapter>"
        "<!-- hidden --><indexterm><primary>gates</primary></indexterm></book>"
    )
    assert document.text == (
        "# Guide\n\n## Gate\n\nThe Upper Mill’s big gate (Not small.) is 10^6 m.\n\n### Deep\n\n- One\n\n"
        "```\n# no heading\n  x < y\n```\n\nCareful\n\nHot.\n\nSizes\n\n| A | B |\n|---|---|\n| 1 | 2 |\n\n"
        "## Weir\n\nEnd.\n"
    )
    assert heading_at(document, "Hot.") == ("Guide", "Gate", "Deep")
    assert heading_at(document, "End.") == ("Guide", "Weir")
    assert _codes(document) == {Code.MARKUP_COMMENT: 1}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "<TEI><teiHeader><fileDesc><titleStmt><title>Poem</title></titleStmt></fileDesc></teiHeader>"
            "<text><body>"
            "<div><head>One</head><l>line a</l><l>line b</l></div></body></text></TEI>",
            "# Poem\n\n## One\n\nline a\n\nline b\n",
        ),
        (
            "<article><front><article-meta><title-group><article-title>Fish</article-title></title-group>"
            "</article-meta></front><body><sec><title>Intro</title><p>As <italic>in</italic> "
            "<xref>[1]</xref>.</p></sec>"
            "</body><back><ref-list><title>References</title><ref><mixed-citation><article-title>Other"
            "</article-title> by X</mixed-citation></ref></ref-list></back></article>",
            "# Fish\n\n## Intro\n\nAs in [1].\n\n## References\n\nOther by X\n",
        ),
        (
            '<svg xmlns="http://www.w3.org/2000/svg"><title>Gate plan</title><path d="M 0 0 L 5 5"/>'
            '<text x="1">Upper <tspan>gate</tspan></text><style>.a{}</style></svg>',
            "Gate plan\n\nUpper gate\n",
        ),
        (
            '<topic id="t"><title>T</title><body><p>Press <uicontrol>Go</uicontrol>.</p>'
            '<image href="a.png" alt="The upper gate"/></body></topic>',
            "# T\n\nPress Go.\n\nThe upper gate\n",
        ),
    ],
    ids=["tei", "jats", "svg", "dita"],
)
def test_other_vocabularies_of_prose(source: str, text: str) -> None:
    document = _read(source)
    assert (document.text, document.content_type) == (text, "markdown")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            '<catalog><pump id="7" place="Mill house, north"><name>Gate four</name><note>Closed &amp; '
            "sealed</note>"
            '<price currency="EUR">3</price></pump><pump id="8"><name>B</name></pump></catalog>',
            "id: 7\nplace: Mill house, north\nname: Gate four\n\nClosed & sealed\n\ncurrency: EUR\nprice: "
            "3\n\n"
            "id: 8\nname: B\n",
        ),
        (
            '<posts><row Id="1" Body="&lt;p&gt;Is it &lt;b&gt;shut&lt;/b&gt;?&lt;/p&gt;" Score="3" Tags="a"/>'
            '<row Id="2" Body="No." Score="4" Tags="b"/></posts>',
            "Id: 1\nBody: Is it shut?\nScore: 3\nTags: a\n\nId: 2\nBody: No.\nScore: 4\nTags: b\n",
        ),
        ("<a>One <b>two</b> <c>three</c>.</a>", "One two three.\n"),
        ("<a><b>One</b> two <c>three</c></a>", "One two three\n"),
        ('<r xmlns:x="u" xml:lang="en"><x:item>a\n  b</x:item></r>', "item: a b\n"),
        (
            "<project><groupId>org.x</groupId><url>http://x.org</url></project>",
            "groupId: org.x\nurl: http://x.org\n",
        ),
    ],
)
def test_records_keep_the_names_of_their_values(source: str, text: str) -> None:
    document = _read(source)
    assert (document.text, document.content_type) == (text, "text")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<doc><p>x < y & z</p><p>a &undefined; b</p>", "x < y & z\n\na &undefined; b\n"),
        ("<doc><p>one<p>two</doc>", "one\n\ntwo\n"),
        ("<doc><p>cut off in the midd", "cut off in the midd\n"),
        ("<doc><p>a</p></sec></doc>", "a\n"),
        ("<doc><p>a</p><p title='open>b</p></doc>", "a\n\n<p title='open>b\n"),
        ("<doc><p>a <![CDATA[b < c</p></doc>", "a <![CDATA[b < c\n"),
        ("<doc><p>a</p><!-- never closed <p>b</p></doc>", "a\n\n<!-- never closed\n\nb\n"),
        ("no XML at all", "no XML at all\n"),
    ],
)
def test_what_is_broken_keeps_its_text(source: str, text: str) -> None:
    assert _read(source).text == text


def test_a_file_that_is_cut_off_is_in_doubt() -> None:
    entries = _read("<doc><sec><p>one</p><sec><p>two").account.entries
    assert [(entry.code, entry.effect) for entry in entries] == [(Code.BROKEN_MARKUP, Effect.DOUBT)]


def test_nothing_is_read_from_outside_and_that_is_said() -> None:
    document = _read(
        '<!DOCTYPE d [<!ENTITY ch SYSTEM "file:///etc/passwd"> <!ENTITY % p SYSTEM '
        '"http://x.org/p.dtd"> %p;]>'
        '<doc><p>a &ch; b</p><xi:include href="c.xml"/></doc>'
    )
    assert document.text == "a b\n"
    (entry,) = document.account.entries
    assert (entry.code, entry.effect, entry.places) == (Code.OTHER_FILE, Effect.LOST, ("ch", "c.xml"))


@pytest.mark.parametrize(
    "source",
    [
        "<!DOCTYPE d [<!ENTITY a0 'lol'>"
        + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 13))
        + "]><doc>&a12;</doc>",
        f"<!DOCTYPE d [<!ENTITY a '{'x' * 9999}'>]><doc>{'&a;' * 20_000}</doc>",
        "<a>" * 5_000 + "text",
        "<" * 20_000 + "text",
        '<a b="' * 20_000 + "text",
        "<!--<![CDATA[<?" * 2_000 + "text",
        "<a>" * 5_000 + "text" + "</b>" * 5_000,
    ],
    ids=["laughs", "long entity", "deep", "signs", "quotes", "unclosed", "mismatched"],
)
def test_hostile_files_take_linear_time_and_room(source: str) -> None:
    assert len(_read(source).text) < 1_500_000


def test_the_declared_encoding_counts() -> None:
    source = '<?xml version="1.0" encoding="windows-1251"?><doc><p>Вода пришла в два.</p></doc>'
    document = _read(source, "cp1251")
    assert (document.text, document.account.entries) == ("Вода пришла в два.\n", ())


@pytest.mark.parametrize(
    "head", ["<?xml version='1.0'?>\n<doc><p>a</p></doc>", "<rss><title>a</title></rss>"]
)
def test_a_file_without_a_suffix_is_recognised(head: str) -> None:
    assert "<" not in read_as(None, head.encode()).text


def test_xhtml_is_read_as_html() -> None:
    source = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body><h2>T</h2><p>a</p></body></html>'
    assert _read(source).text.strip() == "## T\n\na"
