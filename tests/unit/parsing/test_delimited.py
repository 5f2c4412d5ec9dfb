"""Tables become paragraphs that each say what their values are."""

from __future__ import annotations

import pytest

from embedfleet.account_codes import Code
from embedfleet.parsing.delimited import read_delimited
from support.reading import read_with


def _read(data: str) -> str:
    document = read_with(read_delimited, data.encode())
    assert document.content_type == "text"
    return document.text


def test_each_row_is_a_paragraph_of_header_and_value() -> None:
    assert _read("name,age\nAda,36\nAlan,41\n") == "name: Ada\nage: 36\n\nname: Alan\nage: 41\n\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_first_lines_commonest(delimiter: str) -> None:
    table = "name,age\nAda,36\n".replace(",", delimiter)
    assert _read(table) == "name: Ada\nage: 36\n\n"


def test_quoted_cells_keep_delimiters_and_line_breaks() -> None:
    assert _read('a,b\n"x, y","two\nlines"\n') == "a: x, y\nb: two\nlines\n\n"


def test_empty_cells_and_rows_leave_no_trace() -> None:
    assert _read("\na,b\n,1\n\n,\n2,\n") == "b: 1\n\na: 2\n\n"


@pytest.mark.parametrize(
    "table",
    [
        "1,2\nx,y\n",
        "France,1,2,3\nSpain,4,5,6\n",
        "2019,France,12\n2020,Spain,13\n",
        "2024-01-05,Gate,open\n2024-01-06,Weir,shut\n",
        "valve-077,bronze\nvalve-078,brass\n",
        "ada@x.org,Ada\nalan@x.org,Alan\n",
        "bolt,steel\nnut,steel\n",
        "The gate was shut.,Moor\nThe weir was open.,Pollak\n",
        "Umsatz;1.234,50;x\nKosten;2.000,00;y\n",
        "Ada\nAlan\nGrace\n",
    ],
)
def test_a_first_row_that_is_like_the_others_is_data(table: str) -> None:
    rows = _read(table).removesuffix("\n\n").split("\n\n")
    assert ": " not in "".join(rows)
    assert len(rows) == table.count("\n")


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (",gate,depth\n0,three,4.5\n1,four,6.0\n", "1\ngate: four\ndepth: 6.0"),
        (",0,1\n0,a,b\n1,c,d\n", "1\n0: c\n1: d"),
        ('"gate","depth"\n"1","three",4.5\n"2","four",6\n', "2\ngate: four\ndepth: 6"),
        ("Part,Price,Price\nbolt,3,4\n", "Part: bolt\nPrice: 3\nPrice: 4"),
        ("Country,2019,2020\nFrance,1,2\n", "Country: France\n2019: 1\n2020: 2"),
        ("Place,2001,2002\nWeirton,1999,2005\n", "Place: Weirton\n2001: 1999\n2002: 2005"),
        ("Region,2020-Q1,2020-Q2\nNorth,1,2\n", "Region: North\n2020-Q1: 1\n2020-Q2: 2"),
        ("gate,,depth\nthree,x,1\n", "gate: three\nx\ndepth: 1"),
        ("#gate,depth\nthree,1\n", "gate: three\ndepth: 1"),
        ("depth\n4.5\n6.0\n", "depth: 6.0"),
        ("note\nHello, world\nfine\nGood, bye now\n", "note: Good, bye now"),
        ("a,b\n1,2,\n3,4,\n", "a: 3\nb: 4"),
        ('name,"two\nlines"\nx,1\n', "name: x\ntwo lines: 1"),
    ],
)
def test_a_header_may_have_numbers_repeats_and_gaps(table: str, row: str) -> None:
    assert _read(table).removesuffix("\n\n").split("\n\n")[-1] == row


@pytest.mark.parametrize(
    "above",
    [
        "Pump report 2024\n",
        "Pump report 2024\n\n",
        "Pump report 2024,,\n,,\n",
        "Pump report 2024\n# units: m\n",
    ],
)
def test_a_title_above_the_header_is_a_paragraph_of_its_own(above: str) -> None:
    text = _read(f"{above}Name,Depth,State\nA,1,open\nB,2,shut\n")
    assert text.startswith("Pump report 2024\n")
    assert text.endswith("\n\nName: A\nDepth: 1\nState: open\n\nName: B\nDepth: 2\nState: shut\n\n")


def test_names_and_values_above_the_header_stay_together() -> None:
    table = "Report,Pumps\nDate,2024-01-05\n\nName,Depth,State,By\nA,1,open,x\nB,2,shut,y\n"
    assert _read(table).startswith("Report: Pumps\nDate: 2024-01-05\n\nName: A\nDepth: 1\n")


@pytest.mark.parametrize("first", ["sep=;\n", 'sep=";"\n'.replace('"', ""), "SEP=;\n", '"sep=;"\n'])
def test_the_line_that_names_the_delimiter_is_no_row(first: str) -> None:
    table = f"{first}Name;Depth\nGate three, south;4,5\nGate four;6,0\n"
    assert _read(table) == "Name: Gate three, south\nDepth: 4,5\n\nName: Gate four\nDepth: 6,0\n\n"


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (
            '"Name, first";"Town, county";Depth\n"Moor, Ines";"Sluiceham, Kent";4,5\n',
            "Name, first: Moor, Ines\nTown, county: Sluiceham, Kent\nDepth: 4,5",
        ),
        ("name\tdepth\nA, the first\t4,5\n", "name: A, the first\ndepth: 4,5"),
        ("name|note\nA|one, two; three\n", "name: A\nnote: one, two; three"),
        ("Gate;Depth\nthree;4,5\nfour;6,0\n", "Gate: four\nDepth: 6,0"),
        ("name,tags\nA,x;y\nB,z;w\n", "name: B\ntags: z;w"),
        ("'a b','c'\n'x, y','z'\n", "a b: x, y\nc: z"),
        ('a, b\n1, "x, y"\n', "a: 1\nb: x, y"),
    ],
)
def test_the_delimiter_is_the_one_that_makes_regular_rows(table: str, row: str) -> None:
    assert _read(table).removesuffix("\n\n").split("\n\n")[-1] == row


@pytest.mark.parametrize(
    ("row", "cell"),
    [
        ('1,5" pipe,x', 'b: 5" pipe'),
        ('1,"say ""hi"", all",x', 'b: say "hi", all'),
        ('1,"say \\"hi\\", all",x', 'b: say "hi", all'),
        ('1,"Gate" three,x', 'b: "Gate" three'),
        ('1,"one, two\nthree",x', "b: one, two\nthree"),
    ],
)
def test_quotes_inside_of_cells_stay(row: str, cell: str) -> None:
    document = read_with(read_delimited, f"a,b,c\n{row}\n2,y,z\n".encode())
    assert document.text == f"a: 1\n{cell}\nc: x\n\na: 2\nb: y\nc: z\n\n"
    assert document.account.entries == ()


@pytest.mark.parametrize("later", ["", '3,"fine, yes",w\n', '3,v,w\n4,"",r\n', '3,v,"w"\n', '3,v,w"\n'])
def test_a_quote_that_nothing_closes_does_not_swallow_the_rows_below(later: str) -> None:
    document = read_with(read_delimited, f'a,b,c\n1,"open,x\n2,y,z\n{later}'.encode())
    assert document.text.startswith('a: 1\nb: "open\nc: x\n\na: 2\nb: y\nc: z\n\n')
    (entry,) = document.account.entries
    assert (entry.code, entry.count, entry.places) == (Code.STRAY_QUOTE, 1, ("line 2",))


def test_cells_beyond_the_header_are_kept() -> None:
    assert _read("a,b\n1,2,3\n") == "a: 1\nb: 2\n3\n\n"


def test_a_table_of_nothing_but_its_header_is_its_header() -> None:
    assert _read("a,b\n") == "a\nb\n"


def test_an_unclosed_quote_loses_nothing() -> None:
    text = _read('a,b\n1,"open\n2,3\n' + "x" * 200_000)
    assert text.count("x") == 200_000
    assert "a: 2\nb: 3\n" in text
