"""Tables become paragraphs that each say what their values are."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("first", ["1,2", "a,a", "a,"])
def test_a_first_row_that_cannot_be_a_header_is_data(first: str) -> None:
    assert _read(f"{first}\nx,y\n").endswith("x\ny\n\n")
    assert _read(f"{first}\nx,y\n").startswith(first.split(",")[0] + "\n")


def test_cells_beyond_the_header_are_kept() -> None:
    assert _read("a,b\n1,2,3\n") == "a: 1\nb: 2\n3\n\n"


def test_a_table_of_nothing_but_its_header_is_its_header() -> None:
    assert _read("a,b\n") == "a\nb\n"


def test_an_unclosed_quote_loses_nothing() -> None:
    text = _read('a,b\n1,"open\n2,3\n' + "x" * 200_000)
    assert text.count("x") == 200_000
    assert "2,3" in text
