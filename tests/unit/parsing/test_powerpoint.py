"""PowerPoint presentations: what each slide shows, with its number as its page."""

from __future__ import annotations

from embedfleet.account_codes import Code
from embedfleet.parsing.formats import Format, ParsedDocument
from support.office_files import powerpoint, shape, xml
from support.reading import read_as


def read(data: bytes) -> ParsedDocument:
    return read_as(Format.PPTX, data)


def test_slides_are_pages_with_their_titles_as_headings_and_their_notes() -> None:
    slides = [
        shape("The wheel stopped", "") + shape("Mill talk", "title"),
        shape("Only text") + shape("7", "sldNum"),
    ]
    document = read(powerpoint(slides, notes={1: "Speak of the bell"}))
    first = "# Mill talk\n\nThe wheel stopped\n\nNotes: Speak of the bell\n\n"
    assert document.text == f"{first}# Slide 2\n\nOnly text\n"
    assert document.places.pages == ((0, 1), (len(first), 2))
    assert dict(document.account.found)["pages"] == 2
    assert [(one.code, one.chars) for one in document.account.entries] == [(Code.RUNNING_HEAD, 1)]


def test_paragraphs_of_a_body_are_items_by_their_levels() -> None:
    deeper = '<a:p><a:pPr lvl="1"/><a:r><a:t>b</a:t></a:r></a:p>'
    plain = "<a:p><a:pPr><a:buNone/></a:pPr><a:r><a:t>c</a:t></a:r></a:p>"
    text = read(powerpoint([shape(f"a\n{deeper}\n{plain}", "body")])).text
    assert text == "# Slide 1\n\n- a\n  - b\n\nc\n"


def test_numbered_paragraphs_have_their_numbers() -> None:
    line = '<a:p><a:pPr><a:buAutoNum type="alphaLcParenR" startAt="2"/></a:pPr><a:r><a:t>x</a:t></a:r></a:p>'
    assert read(powerpoint([shape(f"{line}\n{line}")])).text == "# Slide 1\n\nb) x\nc) x\n"


def test_shapes_in_groups_and_one_of_each_alternative_are_read() -> None:
    group = f"<p:grpSp><p:grpSp>{shape('deep')}</p:grpSp></p:grpSp>"
    both = (
        f'<mc:AlternateContent><mc:Choice Requires="new">{shape("once")}</mc:Choice>'
        f"<mc:Fallback>{shape('once')}</mc:Fallback></mc:AlternateContent>"
    )
    assert read(powerpoint([group + both])).text == "# Slide 1\n\ndeep\n\nonce\n"


def cell(text: str, attributes: str = "") -> str:
    return f"<a:tc {attributes}><a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody></a:tc>"


ROWS, MERGED = 'rowSpan="2"', 'vMerge="1"'


def test_tables_keep_their_rows_and_merged_cells() -> None:
    table = (
        f"<a:tbl><a:tr>{cell('Mill')}{cell('Year')}</a:tr>"
        f"<a:tr>{cell('Ulm', ROWS)}{cell('1802')}</a:tr>"
        f"<a:tr>{cell('', MERGED)}{cell('1803')}</a:tr></a:tbl>"
    )
    frame = f"<p:graphicFrame><a:graphic><a:graphicData>{table}</a:graphicData></a:graphic></p:graphicFrame>"
    text = read(powerpoint([frame])).text
    assert text.endswith("| Mill | Year |\n| --- | --- |\n| Ulm | 1802 |\n| Ulm | 1803 |\n")


CHART = (
    "<c:chart><c:title><a:t>Harvest</a:t></c:title><c:ser><c:tx><c:v>Apples</c:v></c:tx>"
    '<c:cat><c:strCache><c:pt idx="0"><c:v>1802</c:v></c:pt></c:strCache></c:cat>'
    '<c:val><c:numCache><c:pt idx="0"><c:v>4.3</c:v></c:pt></c:numCache></c:val></c:ser></c:chart>'
)


def frame(graphic: str) -> str:
    return f"<p:graphicFrame><a:graphic><a:graphicData>{graphic}</a:graphicData></a:graphic></p:graphicFrame>"


def test_charts_and_diagrams_are_text() -> None:
    point = "<dgm:pt><dgm:t><a:p><a:r><a:t>Grind</a:t></a:r></a:p></dgm:t></dgm:pt>"
    slide = frame('<c:chart r:id="c"/>') + frame('<dgm:relIds r:dm="d"/>')
    data = powerpoint(
        [slide],
        related={1: {"c": ("chart", "../charts/c.xml"), "d": ("diagramData", "../diagrams/d.xml")}},
        more={
            "ppt/charts/c.xml": xml("c:chartSpace", CHART),
            "ppt/diagrams/d.xml": xml("dgm:dataModel", f"<dgm:ptLst>{point}</dgm:ptLst>"),
        },
    )
    expected = "Harvest\n\n| | Apples |\n| --- | --- |\n| 1802 | 4.3 |\n\n- Grind\n"
    assert read(data).text == f"# Slide 1\n\n{expected}"


def test_a_hidden_slide_is_left_out_and_noted_and_the_next_keeps_its_number() -> None:
    slides = [shape("a"), shape("secret"), shape("c")]
    document = read(powerpoint(slides, attributes={2: 'show="0"'}))
    assert "secret" not in document.text
    assert [page for _, page in document.places.pages] == [1, 3]
    (entry,) = document.account.entries
    assert (entry.code, entry.chars, entry.places) == (Code.HIDDEN, 6, ("slide 2",))


def test_a_broken_slide_loses_only_itself() -> None:
    document = read(powerpoint([shape("a"), "<p:sp>", shape("c")]))
    assert document.text == "# Slide 1\n\na\n\n# Slide 3\n\nc\n"
    (entry,) = document.account.lost
    assert entry.places[0].startswith("slide 2: ")
    assert document.account.coverage(covered=16, visible=16) < 0.7


def test_a_picture_is_its_description_or_noted() -> None:
    described = '<p:pic><p:nvPicPr><p:cNvPr name="Picture 1" descr="The mill"/></p:nvPicPr></p:pic>'
    document = read(powerpoint([described + '<p:pic><p:nvPicPr><p:cNvPr name="x"/></p:nvPicPr></p:pic>']))
    assert document.text == "# Slide 1\n\nThe mill\n"
    assert [one.code for one in document.account.entries] == [Code.IMAGE]


def test_a_slide_of_nothing_but_a_picture_has_no_text() -> None:
    document = read(powerpoint([shape("a"), "<p:pic/>"]))
    assert document.text == "# Slide 1\n\na\n\n"
