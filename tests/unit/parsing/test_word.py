"""Word documents: what Word shows is in the text, once, and what is not in the text is in the account."""

from __future__ import annotations

import pytest

from embedfleet.account_codes import Code, Effect
from embedfleet.parsing.formats import Format, ParsedDocument
from support.office_files import cell, paragraph, run, styled, table, word, xml, zipped
from support.reading import read_as


def read(body: str, **options: object) -> ParsedDocument:
    return read_as(Format.DOCX, word(body, **options))  # type: ignore[arg-type]


def text_of(body: str, **options: object) -> str:
    return read(body, **options).text.strip()


def noted(document: ParsedDocument) -> dict[Code, tuple[int, int | None]]:
    return {entry.code: (entry.count, entry.chars) for entry in document.account.entries}


FOOTNOTE = '<w:r><w:footnoteReference w:id="{}"/></w:r>'


def footnotes(*ids: int, tag: str = "footnote") -> str:
    lines = (
        '<w:{0} w:type="separator" w:id="-1"><w:p/></w:{0}><w:{0} w:type="continuationSeparator" w:id="0"/>'
    )
    notes = "".join(f'<w:{tag} w:id="{i}">{paragraph(run(f"note {i} of the mill"))}</w:{tag}>' for i in ids)
    return lines.format(tag) + notes


def test_the_first_footnote_is_one_although_its_id_is_1() -> None:
    body = paragraph(run("The bell was silent") + FOOTNOTE.format(1) + run(" that night."))
    document = read(body, parts={"footnotes": footnotes(1)})
    assert document.text == "The bell was silent[^1] that night.\n\n[^1]: note 1 of the mill\n"
    assert document.account.found == (("footnotes", 1),)


def test_a_note_that_has_the_id_of_a_line_in_other_documents_is_one() -> None:
    notes = f'<w:footnote w:id="0">{paragraph(run("zero"))}</w:footnote>'
    assert "[^0]: zero" in text_of(paragraph(run("a") + FOOTNOTE.format(0)), parts={"footnotes": notes})


def test_labels_in_the_text_lead_to_their_notes() -> None:
    body = paragraph("".join(run(f"Sentence {i}.") + FOOTNOTE.format(i) for i in (2, 3, 4)))
    text = text_of(body, parts={"footnotes": footnotes(2, 3, 4)})
    assert text.startswith("Sentence 2.[^2]Sentence 3.[^3]Sentence 4.[^4]\n\n[^2]: note 2 ")
    assert text.endswith("[^4]: note 4 of the mill")
    assert text.count("[^") == 6


def test_notes_stand_at_the_end_of_their_section() -> None:
    body = styled("One", "Heading1") + paragraph(run("a") + FOOTNOTE.format(5)) + paragraph(run("b"))
    text = text_of(body + styled("Two", "Heading1"), parts={"footnotes": footnotes(5)})
    assert text == "# One\n\na[^5]\n\nb\n\n[^5]: note 5 of the mill\n\n# Two"


def test_endnotes_have_other_labels_than_footnotes() -> None:
    endnote = '<w:r><w:endnoteReference w:id="2"/></w:r>'
    parts = {"footnotes": footnotes(2), "endnotes": footnotes(2, tag="endnote")}
    text = text_of(paragraph(run("a") + FOOTNOTE.format(2) + run("b") + endnote), parts=parts)
    assert text == "a[^2]b[^e2]\n\n[^2]: note 2 of the mill\n\n[^e2]: note 2 of the mill"
    assert text_of(paragraph(run("b") + endnote), parts={"endnotes": parts["endnotes"]}).startswith("b[^2]")


def test_a_note_that_refers_to_itself_is_written_once_and_one_that_is_missing_is_noted() -> None:
    notes = (
        f'<w:footnote w:id="2">{paragraph(run("see") + FOOTNOTE.format(2) + FOOTNOTE.format(3))}</w:footnote>'
    )
    document = read(paragraph(run("a") + FOOTNOTE.format(2)), parts={"footnotes": notes})
    assert document.text.strip() == "a[^2]\n\n[^2]: see[^2][^3]"
    assert document.account.lost[0].places == ("footnote 3: it is not in the file",)


@pytest.mark.parametrize("main", ["word/document2.xml", "word/document.xml", "content/Main.xml"])
def test_the_main_part_is_the_one_that_the_relationships_name(main: str) -> None:
    assert (
        text_of(paragraph(run("The gate was closed at noon.")), main=main) == "The gate was closed at noon."
    )


@pytest.mark.parametrize("target", ["/word/document2.xml", "./word/Document2.XML"])
def test_the_main_part_is_found_however_its_name_is_written(target: str) -> None:
    document = xml("w:document", f"<w:body>{paragraph(run('gate'))}</w:body>")
    kind = "http://purl.oclc.org/ooxml/officeDocument/relationships/officeDocument"
    rels = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="a" Type="{kind}" Target="{target}"/></Relationships>'
    )
    members = {"_rels/.rels": rels, "word/document2.xml": document}
    assert read_as(Format.DOCX, zipped(members)).text.strip() == "gate"


def test_the_strict_form_of_the_format_is_read() -> None:
    strict = 'xmlns:s="http://purl.oclc.org/ooxml/wordprocessingml/main"'
    document = f"<s:document {strict}><s:body><s:p><s:r><s:t>strict</s:t></s:r></s:p></s:body></s:document>"
    assert read_as(None, zipped({"word/document.xml": document})).text.strip() == "strict"


def test_formulas_stand_in_their_sentence() -> None:
    square = "<m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
    formula = f"<m:oMath><m:r><m:t>E=m</m:t></m:r>{square}</m:oMath>"
    body = paragraph(run("Energy is ") + formula + run(" at rest."))
    assert text_of(body) == "Energy is $E=mc^{2}$ at rest."
    assert text_of(paragraph(f"<m:oMathPara>{formula}</m:oMathPara>")) == "$$E=mc^{2}$$"


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        (
            "<m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f>",
            r"\frac{a}{b}",
        ),
        ("<m:rad><m:deg/><m:e><m:r><m:t>x</m:t></m:r></m:e></m:rad>", r"\sqrt{x}"),
        (
            '<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub><m:r><m:t>i=1</m:t></m:r></m:sub>'
            "<m:sup><m:r><m:t>n</m:t></m:r></m:sup><m:e><m:r><m:t>i</m:t></m:r></m:e></m:nary>",
            r"\sum_{i=1}^{n} i",
        ),
        ('<m:d><m:dPr><m:begChr m:val="["/></m:dPr><m:e><m:r><m:t>x</m:t></m:r></m:e></m:d>', "[x)"),
        (
            "<m:func><m:fName><m:r><m:t>sin</m:t></m:r></m:fName><m:e><m:r><m:t>θ</m:t></m:r></m:e></m:func>",
            r"\sin θ",
        ),
        (
            "<m:sSub><m:e><m:r><m:t>v</m:t></m:r></m:e><m:sub><m:r><m:t>0</m:t></m:r></m:sub></m:sSub>",
            "v_{0}",
        ),
        (
            "<m:m><m:mr><m:e><m:r><m:t>1</m:t></m:r></m:e><m:e><m:r><m:t>2</m:t></m:r></m:e></m:mr></m:m>",
            r"\begin{matrix}1 & 2\end{matrix}",
        ),
    ],
)
def test_equations_are_written_as_latex(equation: str, expected: str) -> None:
    assert text_of(paragraph(run("f ") + f"<m:oMath>{equation}</m:oMath>")) == f"f ${expected}$"


BOX = f"<w:txbxContent>{paragraph(run('bring your own lamp'))}</w:txbxContent>"


@pytest.mark.parametrize(
    "drawing",
    [
        f"<w:pict><v:shape><v:textbox>{BOX}</v:textbox></v:shape></w:pict>",
        f"<w:drawing><wps:txbx>{BOX}</wps:txbx></w:drawing>",
        f'<mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wps:txbx>{BOX}</wps:txbx></w:drawing>'
        f"</mc:Choice><mc:Fallback><w:pict><v:textbox>{BOX}</v:textbox></w:pict></mc:Fallback>"
        "</mc:AlternateContent>",
        '<mc:AlternateContent><mc:Choice Requires="new"><w:drawing/></mc:Choice>'
        f"<mc:Fallback><w:pict><v:textbox>{BOX}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent>",
    ],
)
def test_text_boxes_are_in_the_text_once_and_nothing_is_noted(drawing: str) -> None:
    document = read(paragraph(run("Before.") + f"<w:r>{drawing}</w:r>") + paragraph(run("After.")))
    assert document.text.strip() == "Before.\n\nbring your own lamp\n\nAfter."
    assert not document.account.entries


def test_tracked_changes_are_read_as_accepted_and_deletions_are_noted() -> None:
    body = paragraph(
        run("The fee is ")
        + "<w:del><w:r><w:delText>ten</w:delText></w:r></w:del>"
        + f"<w:ins>{run('twelve')}</w:ins>"
        + run(" crowns.")
    )
    document = read(body)
    assert document.text.strip() == "The fee is twelve crowns."
    assert noted(document) == {Code.OFFICE_DELETED: (1, 3)}
    assert document.account.coverage(covered=1, visible=1) == 1.0


def test_moved_text_stands_once_at_its_new_place() -> None:
    moved = run("The old clause.")
    body = paragraph(f"<w:moveFrom>{moved}</w:moveFrom>") + paragraph(run("Middle."))
    body += f"<w:moveTo>{paragraph(moved)}</w:moveTo>" + paragraph(f"<w:moveTo>{moved}</w:moveTo>")
    assert text_of(body) == "Middle.\n\nThe old clause.\n\nThe old clause."
    assert noted(read(body)) == {Code.OFFICE_DELETED: (1, 13)}


def test_paragraphs_whose_break_is_deleted_are_one() -> None:
    body = paragraph(run("One half"), "<w:rPr><w:del/></w:rPr>") + paragraph(run(" and the other."))
    assert text_of(body) == "One half and the other."


def test_a_deleted_row_is_out() -> None:
    gone = f"<w:trPr><w:del/></w:trPr>{cell('x')}{cell('gone')}"
    assert "gone" not in text_of(table(cell("a") + cell("b"), gone, cell("1") + cell("2")))


STYLES = (
    '<w:style w:type="paragraph" w:styleId="Nadpis1"><w:name w:val="heading 1"/><w:pPr>'
    '<w:outlineLvl w:val="0"/></w:pPr></w:style>'
    '<w:style w:styleId="Chapter"><w:name w:val="Our chapter"/><w:basedOn w:val="Nadpis1"/></w:style>'
    '<w:style w:styleId="a3"><w:name w:val="Überschrift 2"/></w:style>'
    '<w:style w:styleId="Body"><w:name w:val="Body"/><w:basedOn w:val="Nadpis1"/><w:pPr>'
    '<w:outlineLvl w:val="9"/></w:pPr></w:style>'
    '<w:style w:styleId="Loop"><w:name w:val="x"/><w:basedOn w:val="Loop"/></w:style>'
    '<w:style w:styleId="Secret"><w:name w:val="Secret"/><w:rPr><w:vanish/></w:rPr></w:style>'
    '<w:style w:styleId="Titel"><w:name w:val="Title"/></w:style>'
    '<w:style w:styleId="Code"><w:name w:val="Source Code"/></w:style>'
)


@pytest.mark.parametrize(
    ("style", "written"),
    [
        ("Nadpis1", "# Mill"),
        ("Chapter", "# Mill"),
        ("a3", "## Mill"),
        ("Heading3", "### Mill"),
        ("Body", "Mill"),
        ("Loop", "Mill"),
        ("Titel", "# Mill"),
    ],
)
def test_headings_are_known_by_their_styles_in_every_language(style: str, written: str) -> None:
    assert text_of(styled("Mill", style), parts={"styles": STYLES}) == written


def test_headings_are_below_the_title_and_a_paragraph_of_an_outline_level_is_one() -> None:
    body = styled("The mill", "Titel") + styled("Part", "Nadpis1")
    body += paragraph(run("Own level"), '<w:outlineLvl w:val="1"/>') + paragraph(run("# no heading"))
    expected = "# The mill\n\n## Part\n\n### Own level\n\n\\# no heading"
    assert text_of(body, parts={"styles": STYLES}) == expected


def test_hidden_text_is_out_and_noted_and_text_that_a_run_shows_again_is_in() -> None:
    shown = run(" shown", '<w:vanish w:val="0"/>')
    body = paragraph(run("a") + run("secret", "<w:vanish/>"))
    body += paragraph(run("whole") + shown, '<w:pStyle w:val="Secret"/>')
    document = read(body, parts={"styles": STYLES})
    assert document.text.strip() == "a\n\nshown"
    assert noted(document) == {Code.HIDDEN: (2, 11)}


def test_lines_of_code_are_one_listing_that_keeps_their_indentation() -> None:
    body = styled("def f():", "Code") + styled("    return 1", "Code") + paragraph(run("Text"))
    expected = "```\ndef f():\n    return 1\n```\n\nText"
    assert text_of(body, parts={"styles": STYLES}) == expected


def numbering(*levels: str, overrides: str = "") -> str:
    listed = "".join(f'<w:lvl w:ilvl="{i}">{level}</w:lvl>' for i, level in enumerate(levels))
    return (
        f'<w:abstractNum w:abstractNumId="0">{listed}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
        f'<w:num w:numId="2"><w:abstractNumId w:val="0"/>{overrides}</w:num>'
    )


def level(form: str, pattern: str, start: int = 1) -> str:
    return f'<w:start w:val="{start}"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{pattern}"/>'


def item(text: str, depth: int = 0, list_id: int = 1, style: str = "") -> str:
    own = f'<w:pStyle w:val="{style}"/>' if style else ""
    return paragraph(
        run(text), f'{own}<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{list_id}"/></w:numPr>'
    )


def test_items_have_the_numbers_that_word_shows() -> None:
    parts = {"numbering": numbering(level("decimal", "%1."), level("lowerLetter", "%1.%2)"))}
    body = item("a") + item("b", 1) + item("c", 1) + item("d") + item("e", 1) + paragraph(run("end"))
    assert text_of(body, parts=parts) == "1. a\n  1.a) b\n  1.b) c\n2. d\n  2.a) e\n\nend"


@pytest.mark.parametrize(
    ("form", "labels"),
    [
        ("upperRoman", "IX. X."),
        ("lowerLetter", "i. j."),
        ("decimalZero", "09. 10."),
        ("ordinal", "9th. 10th."),
        ("bullet", "- -"),
        ("chineseCounting", "9. 10."),
    ],
)
def test_numbers_are_written_as_the_list_says(form: str, labels: str) -> None:
    parts = {"numbering": numbering(level(form, "%1.", start=9))}
    text = text_of(item("x") + item("x"), parts=parts)
    assert " ".join(line.split()[0] for line in text.splitlines()) == labels


def test_a_list_that_starts_again_counts_from_its_own_start_and_another_goes_on() -> None:
    again = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride>'
    body = item("a") + item("b") + item("c", list_id=2)
    assert text_of(body, parts={"numbering": numbering(level("decimal", "%1."), overrides=again)}).endswith(
        "1. c"
    )
    assert text_of(body, parts={"numbering": numbering(level("decimal", "%1."))}).endswith("3. c")


def test_a_numbered_heading_has_its_number() -> None:
    parts = {"numbering": numbering(level("decimal", "%1"), level("decimal", "%1.%2"))}
    body = item("Scope", style="Heading1") + item("Terms", 1, style="Heading2")
    assert text_of(body, parts=parts) == "# 1 Scope\n\n## 1.1 Terms"


def test_a_table_is_rows_with_its_header() -> None:
    text = text_of(table(cell("fruit") + cell("a|b"), cell("apple") + cell("1"), cell("") + cell("")))
    assert text == "| fruit | a\\|b |\n| --- | --- |\n| apple | 1 |"


def test_merged_cells_have_their_text_in_each_row_and_header_column() -> None:
    down = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    wide = '<w:gridSpan w:val="2"/>'
    head = "<w:trPr><w:tblHeader/></w:trPr>"
    body = table(
        head + cell("kind") + cell("2020", wide),
        head + cell("") + cell("Q1") + cell("Q2"),
        cell("apple", down[0]) + cell("1") + cell("2"),
        cell("", down[1]) + cell("3") + cell("4"),
        cell("all", '<w:gridSpan w:val="3"/>'),
    )
    assert text_of(body).splitlines() == [
        "| kind | 2020 Q1 | 2020 Q2 |",
        "| --- | --- | --- |",
        "| apple | 1 | 2 |",
        "| apple | 3 | 4 |",
        "| all | | |",
    ]


def test_a_title_row_stands_above_the_table_and_a_table_in_a_cell_is_in_its_row() -> None:
    inner = table(cell("x") + cell("y"), cell("1") + cell("2"))
    body = table(
        cell("Harvest", '<w:gridSpan w:val="2"/>'),
        cell("a") + cell("b"),
        cell("1") + f"<w:tc>{inner}<w:p/></w:tc>",
    )
    assert text_of(body) == "Harvest\n\n| a | b |\n| --- | --- |\n| 1 | x, y; 1, 2 |"


def test_a_table_that_only_lays_out_the_page_is_written_as_its_paragraphs() -> None:
    heading = f"<w:tc>{styled('Skills', 'Heading1')}{paragraph(run('Milling'))}</w:tc>"
    assert text_of(table(heading + cell("Born 1802"))) == "# Skills\n\nMilling\n\nBorn 1802"
    assert text_of(table(cell("one"), cell("two"))) == "one\n\ntwo"
    assert text_of(table(cell("Name") + cell("Ann"))) == "Name | Ann"


FIELD = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'


def code(text: str) -> str:
    return FIELD.format("begin") + f"<w:r><w:instrText>{text}</w:instrText></w:r>" + FIELD.format("separate")


def test_a_field_is_its_result_and_not_its_code() -> None:
    inner = code("PAGEREF x") + run("7") + FIELD.format("end")
    body = paragraph(
        run("See ") + code('HYPERLINK "http://x"') + run("page ") + inner + FIELD.format("end") + run(".")
    )
    body += paragraph(f'<w:fldSimple w:instr="AUTHOR">{run("Ann")}</w:fldSimple>')
    assert text_of(body) == "See page 7.\n\nAnn"


def test_a_field_that_never_ends_does_not_take_the_text_after_it() -> None:
    assert text_of(paragraph(run("a") + FIELD.format("begin")) + paragraph(run("b"))) == "a\n\nb"


def test_a_table_of_contents_is_left_out_and_noted() -> None:
    body = paragraph(code("TOC \\o") + run("Chapter one 3")) + paragraph(run("Chapter two 4"))
    body += paragraph(FIELD.format("end")) + paragraph(run("Text"))
    body += styled("Chapter three 9", "TOC1")
    document = read(body)
    assert document.text.strip() == "Text"
    assert noted(document) == {Code.OFFICE_CONTENTS: (3, 35)}
    assert document.account.entries[0].effect is Effect.FURNITURE


def test_content_controls_are_in_and_their_prompts_are_not() -> None:
    prompted = "<w:sdtPr><w:showingPlcHdr/></w:sdtPr>"
    prompt = f"<w:sdt>{prompted}<w:sdtContent>{run('Click here')}</w:sdtContent></w:sdt>"
    block = f"<w:sdt><w:sdtContent>{paragraph(run('in a block'))}</w:sdtContent></w:sdt>"
    inline = f"<w:sdt><w:sdtContent>{run('Ann')}</w:sdtContent></w:sdt>"
    document = read(
        block + paragraph(run("By ") + inline + prompt + f"<w:smartTag>{run(' B.')}</w:smartTag>")
    )
    assert document.text.strip() == "in a block\n\nBy Ann B."
    assert noted(document) == {Code.OFFICE_PROMPT: (1, 9)}


def test_values_of_form_fields_are_in() -> None:
    box = "<w:ffData><w:checkBox><w:checked/></w:checkBox></w:ffData>"
    choices = (
        '<w:ddList><w:result w:val="1"/><w:listEntry w:val="rye"/><w:listEntry w:val="oats"/></w:ddList>'
    )
    fields = [
        f'<w:r><w:fldChar w:fldCharType="begin">{form}</w:fldChar></w:r>'
        for form in (box, f"<w:ffData>{choices}</w:ffData>")
    ]
    body = paragraph(fields[0] + FIELD.format("end") + run(" paid, ") + fields[1] + FIELD.format("end"))
    assert text_of(body) == "☒ paid, oats"


def test_raised_lowered_and_struck_text_keep_their_meaning() -> None:
    above, below = '<w:vertAlign w:val="superscript"/>', '<w:vertAlign w:val="subscript"/>'
    body = paragraph(
        run("10")
        + run("-", above)
        + run("6", above)
        + run(" H")
        + run("2", below)
        + run("O x")
        + run("i", below)
    )
    assert text_of(body) == "10^-6 H2O x_i"
    assert (
        text_of(paragraph(run("1") + run("st", above) + run(" a") + run("n + 1", above))) == "1st a^(n + 1)"
    )
    assert text_of(paragraph(run("now ") + run("$100 ", "<w:strike/>") + run("$80"))) == "now ~~$100~~ $80"


def test_symbols_are_the_characters_that_their_fonts_show() -> None:
    symbols = '<w:r><w:sym w:font="Symbol" w:char="F06D"/><w:sym w:font="Wingdings" w:char="F0FC"/></w:r>'
    document = read(paragraph(symbols + run("\uf0b0", '<w:rFonts w:ascii="Symbol"/>') + run("n")))
    assert document.text.strip() == "μ✓°n"
    assert not document.account.entries
    unknown = read(paragraph('<w:r><w:sym w:font="Logos" w:char="F041"/></w:r>' + run("n")))
    assert unknown.account.lost[0].places == ("of the font Logos",)


def test_soft_hyphens_are_invisible_and_unbreakable_ones_are_not() -> None:
    soft = "<w:r><w:t>Wasser</w:t><w:softHyphen/><w:t>mühle Dampf\u00adschiff a</w:t></w:r>"
    hard = "<w:r><w:noBreakHyphen/><w:t>b</w:t></w:r>"
    assert text_of(paragraph(soft + hard)) == "Wassermühle Dampfschiff a-b"


def picture(description: str) -> str:
    return (
        f'<w:r><w:drawing><wp:inline><wp:docPr id="1" name="Picture 1" {description}/>'
        "<a:graphic><a:graphicData><pic:pic/></a:graphicData></a:graphic></wp:inline></w:drawing></w:r>"
    )


def test_the_description_of_a_picture_is_in_and_a_picture_without_one_is_noted() -> None:
    document = read(paragraph(run("See") + picture('descr="The mill in 1802"')) + paragraph(picture("")))
    assert document.text.strip() == "See The mill in 1802"
    assert noted(document) == {Code.IMAGE: (1, 0)}


def test_an_object_of_another_program_is_noted_by_its_program() -> None:
    shape = '<v:shape><v:imagedata/></v:shape><o:OLEObject ProgID="Excel.Sheet.12"/>'
    entry = read(paragraph(run("a") + f"<w:r><w:object>{shape}</w:object></w:r>")).account.lost[0]
    assert (entry.code, entry.count, entry.places) == (Code.OFFICE_OBJECT, 1, ("Excel.Sheet.12",))


def test_a_comment_stands_below_its_paragraph_with_its_author() -> None:
    comments = f'<w:comment w:id="7" w:author="Ann Lee">{paragraph(run("Really?"))}</w:comment>'
    body = paragraph(run("It is so.") + '<w:r><w:commentReference w:id="7"/></w:r>')
    assert text_of(body, parts={"comments": comments}) == "It is so.\n\nComment by Ann Lee: Really?"


def test_page_headers_and_footers_are_noted() -> None:
    document = read(paragraph(run("text")), parts={"header": paragraph(run("Mill Co")), "footer": "<w:p/>"})
    assert document.text.strip() == "text"
    assert noted(document) == {Code.RUNNING_HEAD: (1, 6)}


def test_the_title_of_the_properties_is_the_documents_unless_its_text_begins_with_it() -> None:
    assert read(paragraph(run("text")), title="The Mill").title == "The Mill"
    assert read(styled("The Mill", "Heading1"), title="The Mill").title is None
    assert read(paragraph(run("text")), title="Untitled 1").title is None


def test_a_broken_part_loses_only_itself() -> None:
    data = word(paragraph(run("kept") + FOOTNOTE.format(1)), parts={"footnotes": "<w:footnote>"})
    document = read_as(Format.DOCX, data)
    assert document.text.strip() == "kept[^1]"
    assert {entry.code for entry in document.account.lost} == {Code.OFFICE_PART}


def test_ruby_text_follows_its_base() -> None:
    ruby = f"<w:r><w:ruby><w:rt>{run('かんじ')}</w:rt><w:rubyBase>{run('漢字')}</w:rubyBase></w:ruby></w:r>"
    assert text_of(paragraph(ruby + run("を"))) == "漢字(かんじ)を"
