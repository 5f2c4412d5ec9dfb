"""OpenDocument files: what the office program shows is in the text, and the rest is in the account."""

from __future__ import annotations

import pytest

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.formats import Format, ParsedDocument, format_of
from support.office_files import zipped
from support.reading import read_as

_NAMES = ("office", "text", "table", "style", "presentation", "meta", "chart", "form")
_NAMESPACES = " ".join(
    [
        *(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in _NAMES),
        'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"',
        'xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0"',
        'xmlns:dc="http://purl.org/dc/elements/1.1/"',
        'xmlns:xlink="http://www.w3.org/1999/xlink"',
        'xmlns:mml="http://www.w3.org/1998/Math/MathML"',
    ]
)


def part(root: str, content: str) -> str:
    return f"<{root} {_NAMESPACES}>{content}</{root}>"


def package(kind: str, body: str, styles: str = "", **more: str) -> bytes:
    automatic = f"<office:automatic-styles>{styles}</office:automatic-styles>"
    content = f"{automatic}<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    named = {name.replace("__", "/").replace("_xml", ".xml"): text for name, text in more.items()}
    members = {"mimetype": f"application/vnd.oasis.opendocument.{kind}"}
    return zipped({**members, "content.xml": part("office:document-content", content), **named})


def read(kind: str, body: str, styles: str = "", **more: str) -> ParsedDocument:
    return read_as(Format.OPENDOCUMENT, package(kind, body, styles, **more))


def text_of(body: str, styles: str = "", **more: str) -> str:
    return read("text", body, styles, **more).text.strip()


def noted(document: ParsedDocument) -> dict[Code, tuple[int, int | None]]:
    return {entry.code: (entry.count, entry.chars) for entry in document.account.entries}


def style(name: str, family: str, properties: str, parent: str = "") -> str:
    own = f' style:parent-style-name="{parent}"' if parent else ""
    return f'<style:style style:name="{name}" style:family="{family}"{own}>{properties}</style:style>'


def test_a_text_is_its_headings_and_paragraphs() -> None:
    spaces = "<text:p>The  gate\n was<text:s text:c='2'/>closed<text:tab/>at<text:line-break/>noon.</text:p>"
    body = f'<text:h text:outline-level="2">Gates</text:h>{spaces}'
    assert text_of(body) == "## Gates\n\nThe gate was  closed at\nnoon."


def test_values_of_form_fields_are_text_and_passwords_are_not() -> None:
    fields = (
        '<form:text form:name="mill" form:current-value="Lower Sluiceham"/><form:text form:name="empty"/>'
        '<form:checkbox form:label="Owner agrees" form:current-state="checked"/>'
        '<form:password form:name="key" form:current-value="SECRET"/>'
    )
    body = f"<office:forms><form:form>{fields}</form:form></office:forms><text:p>Permit</text:p>"
    assert text_of(body) == "mill: Lower Sluiceham\n\nOwner agrees: yes\n\nPermit"


def test_the_title_is_above_all_headings() -> None:
    body = '<text:p text:style-name="P1">Mill</text:p><text:h text:outline-level="1">One</text:h>'
    styles = style("P1", "paragraph", "", parent="Title") + style("Title", "paragraph", "")
    assert text_of(body, styles) == "# Mill\n\n## One"


def test_lists_have_the_numbers_that_are_shown() -> None:
    levels = (
        '<text:list-style style:name="L"><text:list-level-style-number text:level="1" style:num-format="1" '
        'style:num-suffix="."/><text:list-level-style-number text:level="2" style:num-format="a" '
        'style:num-suffix=")"/></text:list-style>'
    )
    inner = "<text:list><text:list-item><text:p>b</text:p></text:list-item></text:list>"
    item = "<text:list-item><text:p>{}</text:p>{}</text:list-item>"
    body = f'<text:list text:style-name="L">{item.format("a", inner)}{item.format("c", inner)}</text:list>'
    bullets = f"<text:list>{item.format('d', '')}</text:list>"
    assert text_of(body, levels) == "1. a\n  a) b\n2. c\n  a) b"
    assert text_of(bullets) == "- d"


def test_notes_have_the_labels_that_the_text_shows() -> None:
    note = (
        '<text:note text:note-class="{}"><text:note-citation>{}</text:note-citation>'
        "<text:note-body><text:p>{}</text:p></text:note-body></text:note>"
    )
    body = f"<text:p>a{note.format('footnote', 1, 'foot')}b{note.format('endnote', 'i', 'end')}.</text:p>"
    document = read("text", body + "<text:p>c</text:p>")
    assert document.text.strip() == "a[^1]b[^ei].\n\nc\n\n[^1]: foot\n\n[^ei]: end"
    assert dict(document.account.found) == {"footnotes": 1, "endnotes": 1}


def test_comments_and_tracked_changes() -> None:
    changes = (
        "<text:tracked-changes><text:changed-region><text:deletion><office:change-info><dc:creator>Ann"
        "</dc:creator></office:change-info><text:p>old</text:p></text:deletion></text:changed-region>"
        "</text:tracked-changes>"
    )
    comment = "<office:annotation><dc:creator>Ann</dc:creator><text:p>Really?</text:p></office:annotation>"
    document = read("text", f'{changes}<text:p>new{comment} text<text:change text:change-id="x"/></text:p>')
    assert document.text.strip() == "new text\n\nComment by Ann: Really?"
    assert noted(document) == {Code.OFFICE_DELETED: (1, 3)}


def test_hidden_text_and_tables_of_contents_are_left_out_and_noted() -> None:
    styles = style("T1", "text", '<style:text-properties text:display="none"/>')
    body = '<text:p>a<text:span text:style-name="T1">secret</text:span></text:p>'
    body += '<text:section text:display="none" text:name="S"><text:p>shut</text:p></text:section>'
    index = "<text:index-body><text:p>One 3</text:p></text:index-body>"
    body += f"<text:table-of-content>{index}</text:table-of-content>"
    document = read("text", body, styles)
    assert document.text.strip() == "a"
    assert noted(document) == {Code.HIDDEN: (2, 10), Code.OFFICE_CONTENTS: (1, 4)}


def test_raised_and_struck_text_keeps_its_meaning() -> None:
    styles = style("T1", "text", '<style:text-properties style:text-position="super 58%"/>')
    styles += style("T2", "text", '<style:text-properties style:text-line-through-style="solid"/>')
    span = '<text:span text:style-name="{}">{}</text:span>'
    body = f"<text:p>10{span.format('T1', 6)} {span.format('T2', 'old')}</text:p>"
    assert text_of(body, styles) == "10^6 ~~old~~"


def row(*cells: str, attributes: str = "") -> str:
    made = (
        cell if cell.startswith("<") else f"<table:table-cell><text:p>{cell}</text:p></table:table-cell>"
        for cell in cells
    )
    return f"<table:table-row {attributes}>{''.join(made)}</table:table-row>"


def table(*rows: str, name: str = "S", attributes: str = "") -> str:
    return f'<table:table table:name="{name}" {attributes}>{"".join(rows)}</table:table>'


COVERED = "<table:covered-table-cell/>"


def test_a_table_keeps_its_header_and_its_merged_cells() -> None:
    merged = '<table:table-cell table:number-rows-spanned="2"><text:p>Ulm</text:p></table:table-cell>'
    header = f"<table:table-header-rows>{row('Mill', 'Year')}</table:table-header-rows>"
    text = text_of(table(header, row(merged, "1802"), row(COVERED, "1803")))
    assert text == "| Mill | Year |\n| --- | --- |\n| Ulm | 1802 |\n| Ulm | 1803 |"
    assert text_of(table(row("only"), row("text"))) == "only\n\ntext"


def test_a_sheet_is_rows_that_name_their_values_as_shown() -> None:
    date = '<table:table-cell office:value="45352"><text:p>01.03.24</text:p></table:table-cell>'
    bare = '<table:table-cell office:value="7"/>'
    blank = '<table:table-cell table:number-columns-repeated="16000"/>'
    last = row(blank, attributes='table:number-rows-repeated="1048000"')
    sheet = table(row("Mill", "Day", "Count"), row("Ulm", date, bare, blank), last, name="Mills")
    assert read("spreadsheet", sheet).text == "# Mills\n\nMill: Ulm\nDay: 01.03.24\nCount: 7\n\n"


def test_names_of_groups_of_columns_and_repeated_rows_are_kept_in_a_sheet() -> None:
    wide = '<table:table-cell table:number-columns-spanned="2"><text:p>2020</text:p></table:table-cell>'
    sheet = table(
        row("Mill", wide, COVERED),
        row("", "Q1", "Q2"),
        row("Ulm", "1", "2", attributes='table:number-rows-repeated="2"'),
    )
    assert read("spreadsheet", sheet).text.count("Mill: Ulm\n2020 Q1: 1\n2020 Q2: 2\n\n") == 2


def test_hidden_sheets_rows_and_columns_are_left_out_and_noted() -> None:
    styles = style("ta", "table", '<style:table-properties table:display="false"/>')
    columns = '<table:table-column/><table:table-column table:visibility="collapse"/><table:table-column/>'
    shown = table(
        columns,
        row("Name", "Wage", "Age"),
        row("Ann", "12", "30"),
        row("Ben", "13", "31", attributes='table:visibility="filter"'),
    )
    shut = table(row("secret"), name="Shut", attributes='table:style-name="ta"')
    document = read("spreadsheet", shown + shut, styles)
    assert document.text == "# S\n\nName: Ann\nAge: 30\n\n"
    assert noted(document) == {Code.HIDDEN: (3, 6 + 7 + 6)}


def test_comments_of_a_sheet_are_not_in_its_cells() -> None:
    comment = "<office:annotation><dc:creator>Ann</dc:creator><text:p>Really?</text:p></office:annotation>"
    cell = f"<table:table-cell>{comment}<text:p>Ulm</text:p></table:table-cell>"
    text = read("spreadsheet", table(row("Mill", "Year"), row(cell, "1802"))).text
    assert text == "# S\n\nMill: Ulm\nYear: 1802\n\nComment by Ann: Really?\n\n"


def frame(content: str, role: str = "") -> str:
    own = f'presentation:class="{role}"' if role else ""
    return f"<draw:frame {own}><draw:text-box>{content}</draw:text-box></draw:frame>"


def test_slides_are_pages_with_titles_notes_and_groups() -> None:
    notes = f"<presentation:notes>{frame('<text:p>Speak</text:p>', 'notes')}</presentation:notes>"
    group = "<draw:g><draw:custom-shape><text:p>deep</text:p></draw:custom-shape></draw:g>"
    first = frame("<text:p>Body</text:p>") + frame("<text:p>Mill</text:p>", "title") + group + notes
    hidden = f'<draw:page draw:style-name="dp">{frame("<text:p>xyz</text:p>")}</draw:page>'
    styles = style("dp", "drawing-page", '<style:drawing-page-properties presentation:visibility="hidden"/>')
    last = (
        f"<draw:page>{frame('<text:p>End</text:p>')}{frame('<text:p>7</text:p>', 'page-number')}</draw:page>"
    )
    document = read("presentation", f"<draw:page>{first}</draw:page>{hidden}{last}", styles)
    assert document.text == "# Mill\n\nBody\n\ndeep\n\nNotes: Speak\n\n# Slide 3\n\nEnd\n"
    assert [page for _, page in document.places.pages] == [1, 3]
    assert noted(document) == {Code.HIDDEN: (1, 3), Code.RUNNING_HEAD: (1, 1)}


def test_formulas_stand_in_their_sentence_and_pictures_are_their_descriptions() -> None:
    formula = '<draw:frame><draw:object xlink:href="./Object 1"/><draw:image/></draw:frame>'
    math = part("mml:math", "<mml:semantics><mml:annotation>E = m c^2</mml:annotation></mml:semantics>")
    picture = "<draw:frame><draw:image/>{}</draw:frame>"
    pictures = picture.format("<svg:desc>The mill</svg:desc>") + picture.format("")
    body = f"<text:p>Energy {formula} rests.{pictures}</text:p>"
    members = {"Object 1/content.xml": math, "mimetype": "application/vnd.oasis.opendocument.text"}
    content = f"<office:body><office:text>{body}</office:text></office:body>"
    data = zipped({**members, "content.xml": part("office:document-content", content)})
    document = read_as(Format.OPENDOCUMENT, data)
    assert document.text.strip() == "Energy $E = m c^2$ rests.\n\nThe mill"
    assert noted(document) == {Code.IMAGE: (1, 0)}


def test_title_and_running_heads() -> None:
    meta = part("office:document-meta", "<office:meta><dc:title>The Mill</dc:title></office:meta>")
    head = "<style:header><text:p>Mill Co</text:p></style:header>"
    masters = f"<office:master-styles><style:master-page>{head}</style:master-page></office:master-styles>"
    styles = part("office:document-styles", masters)
    document = read("text", "<text:p>text</text:p>", meta_xml=meta, styles_xml=styles)
    assert document.title == "The Mill"
    assert noted(document) == {Code.RUNNING_HEAD: (1, 6)}


def test_an_encrypted_file_is_named() -> None:
    manifest = (
        '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><m:file-entry>'
        "<m:encryption-data/></m:file-entry></m:manifest>"
    )
    with pytest.raises(ParseError, match="is encrypted: remove the password"):
        read("text", "<text:p>x</text:p>", **{"META-INF__manifest_xml": manifest})


def test_the_suffixes_of_open_document_are_known() -> None:
    assert {format_of(f"a.{suffix}") for suffix in ("odt", "ods", "odp", "ott")} == {Format.OPENDOCUMENT}
