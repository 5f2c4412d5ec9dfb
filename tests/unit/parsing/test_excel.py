"""Excel workbooks: each row names its values, as the sheet shows them."""

from __future__ import annotations

import pytest

from embedfleet.account_codes import Code
from embedfleet.parsing.formats import Format
from embedfleet.parsing.office.number_formats import shown_number
from support.office_files import excel, links, rows, sheet_comments
from support.reading import read_as


def text_of(data: bytes) -> str:
    return read_as(Format.XLSX, data).text.strip()


def test_each_sheet_is_a_heading_and_its_rows_name_their_values() -> None:
    data = excel(
        {
            "Gates": rows(["Name", "Depth"], ["Gate three", 4.5]),
            "Mills": rows(["Mill", "Year"], ["Ulm", 1802]),
        }
    )
    assert text_of(data) == "# Gates\n\nName: Gate three\nDepth: 4.5\n\n# Mills\n\nMill: Ulm\nYear: 1802"


def test_strings_are_read_wherever_they_are_kept_and_readings_of_characters_are_not() -> None:
    rich = "<r><t>Gate </t></r><r><t>one</t></r><rPh><t>ge-to</t></rPh>"
    shared = '<c t="s"><v>1</v></c>'
    formula = '<c t="str"><f>A1</f><v>a_x000D_b</v></c>'
    data = excel({"S": rows(["Name", "Other"], [shared, formula])}, strings=["<t>x</t>", rich])
    assert text_of(data) == "# S\n\nName: Gate one\nOther: ab"


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        (0.125, "0.0%", "12.5%"),
        (1234.5, "#,##0.00", "1,234.50"),
        (-1234.5, "#,##0.00;(#,##0.00)", "(1,234.50)"),
        (7, "00000", "00007"),
        (1234.5, '"$"#,##0.00', "$1,234.50"),
        (1234.5, "[$€-407] #,##0.00", "€ 1,234.50"),
        (12, '0" kg"', "12 kg"),
        (1234567, '0.0,,"M"', "1.2M"),
        (3, "0.##", "3"),
        (12345, "0.00E+00", "1.23E+04"),
        (0.1 + 0.2, "General", "0.3"),
        (1e15, "General", "1e+15"),
        (0.5, "# ?/?", "0.5"),
        (5550199, r"000\-0000", "5550199"),
        (2.5, "0", "3"),
        (45352, "yyyy-mm-dd", "2024-03-01"),
        (45352, "[$-409]d-mmm-yyyy;@", "2024-03-01"),
        (45352.5, "d.m.yy h:mm", "2024-03-01 12:00"),
        (45352, "mmm-yy", "2024-03"),
        (0.75, "h:mm AM/PM", "18:00"),
        (1.5, "[h]:mm", "36:00"),
        (1, "d.m.yyyy", "1900-01-01"),
        (-1, "d.m.yyyy", "-1"),
        (45352, '0 "days"', "45352 days"),
        (45352, "[Red]0", "45352"),
    ],
)
def test_numbers_are_written_as_the_sheet_shows_them(value: float, code: str, shown: str) -> None:
    assert shown_number(value, code, from_1904=False) == shown


def test_days_are_counted_from_1904_where_the_workbook_says_so() -> None:
    assert shown_number(0, "yyyy-mm-dd", from_1904=True) == "1904-01-01"


def test_cells_are_shown_by_their_styles() -> None:
    cells = ['<c s="1"><v>0.5</v></c>', '<c t="b"><v>1</v></c>', '<c t="e"><v>#REF!</v></c>']
    data = excel({"S": rows(["Share", "Paid", "Sum"], cells)}, formats=["0%"])
    assert text_of(data) == "# S\n\nShare: 50%\nPaid: TRUE\nSum: #REF!"


def test_a_formula_without_a_result_is_noted_by_its_cell() -> None:
    formula = "<c><f>SUM(A1)</f></c>"
    document = read_as(
        Format.XLSX, excel({"S": rows(["Name", "Sum"], ["a", formula], ["b", "<c><f/><v>2</v></c>"])})
    )
    assert document.text.strip().endswith("Name: a\n\nName: b\nSum: 2")
    assert [(one.code, one.places) for one in document.account.lost] == [(Code.SHEET_FORMULA, ("S!B2",))]


def test_what_is_hidden_is_left_out_and_noted() -> None:
    columns = '<cols><col min="3" max="3" hidden="1"/></cols>'
    shown = columns + rows(["Name", "Age", "Wage"], ["Ann", 30, 12], ["Ben", 31, 13], hidden=[3])
    data = excel(
        {"Open": shown, "Shut": rows(["secret"]), "Veryshut": rows(["xyz"])},
        states={"Shut": 'state="hidden"', "Veryshut": 'state="veryHidden"'},
    )
    document = read_as(Format.XLSX, data)
    assert document.text.strip() == "# Open\n\nName: Ann\nAge: 30"
    (entry,) = document.account.entries
    # Wage and 12, Ben and 31 and 13, secret, xyz
    assert (entry.code, entry.count, entry.chars) == (Code.HIDDEN, 4, 6 + 7 + 6 + 3)


def test_a_merged_cell_has_its_text_in_each_row() -> None:
    merged = '<mergeCells><mergeCell ref="A2:A3"/></mergeCells>'
    table = rows(["Mill", "Year"], ["Ulm", 1802], ["", 1803]) + merged
    assert text_of(excel({"S": table})) == "# S\n\nMill: Ulm\nYear: 1802\n\nMill: Ulm\nYear: 1803"


def test_names_of_groups_of_columns_are_in_the_names_of_the_columns() -> None:
    merged = '<mergeCells><mergeCell ref="B1:C1"/><mergeCell ref="A1:A2"/></mergeCells>'
    table = rows(["Mill", "2020", ""], ["", "Q1", "Q2"], ["Ulm", 1, 2]) + merged
    assert text_of(excel({"S": table})) == "# S\n\nMill: Ulm\n2020 Q1: 1\n2020 Q2: 2"


def test_a_title_above_the_table_is_no_header_and_a_second_table_has_its_own() -> None:
    merged = '<mergeCells><mergeCell ref="A1:C1"/></mergeCells>'
    table = rows(
        ["Harvest of 1802"],
        [],
        ["Fruit", "Count", "Price"],
        ["apple", 3, 4],
        [],
        ["City", "People", "Year"],
        ["Ulm", 5, 1802],
    )
    lines = text_of(excel({"S": table + merged})).splitlines()
    assert lines[2] == "Harvest of 1802"
    assert lines[4:7] == ["Fruit: apple", "Count: 3", "Price: 4"]
    assert lines[8:] == ["City: Ulm", "People: 5", "Year: 1802"]


def test_a_blank_row_within_a_table_does_not_end_it() -> None:
    table = rows(["Fruit", "Count"], ["apple", 3], [], ["pear", 4])
    assert text_of(excel({"S": table})).endswith("Fruit: pear\nCount: 4")


def test_a_table_that_does_not_begin_in_the_corner_is_read() -> None:
    table = rows([], ["", "", "Fruit", "Count"], ["", "", "apple", 3])
    assert text_of(excel({"S": table})) == "# S\n\nFruit: apple\nCount: 3"


def test_comments_are_below_their_sheet_with_cell_and_author() -> None:
    comments = sheet_comments(
        '<authors><author>Ann</author></authors><commentList><comment ref="A2" authorId="0"><text><r><t>Ann:'
        "\nReally?</t></r></text></comment></commentList>"
    )
    more = {
        "xl/worksheets/_rels/sheet0.xml.rels": links({"c": ("comments", "../comments1.xml")}),
        "xl/comments1.xml": comments,
    }
    data = excel({"S": rows(["Name"], ["a b c"])}, more=more)
    assert text_of(data).endswith("Comment on A2 by Ann: Really?")


def test_a_broken_sheet_loses_only_itself() -> None:
    document = read_as(Format.XLSX, excel({"Bad": "<sheetData>", "Good": rows(["Name"], ["kept it"])}))
    assert document.text.strip() == "# Good\n\nName: kept it"
    assert document.account.lost[0].places[0].startswith("sheet Bad: ")


@pytest.mark.parametrize("reference", ["A1:XFD1048576", "A1:ZZZ9999999", "nonsense", "A1:B"])
def test_merged_cells_of_any_size_cost_little(reference: str) -> None:
    merged = f'<mergeCells><mergeCell ref="{reference}"/></mergeCells>'
    assert "Name" in text_of(excel({"S": rows(["Name", "Year"], ["a", 1]) + merged}))
