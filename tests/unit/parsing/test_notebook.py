"""A notebook is its cells and the outputs that are text; images are said, and never in the text."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.formats import Format, ParsedDocument
from support.reading import read_as

IMAGE = base64.b64encode(bytes(range(256)) * 40).decode()


def notebook(*cells: dict[str, Any], **more: Any) -> ParsedDocument:
    return read_as(Format.NOTEBOOK, json.dumps({"cells": cells, "nbformat": 4} | more).encode())


def code(source: Any, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def data(**forms: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {k.replace("_", "/"): v for k, v in forms.items()}}


def test_cells_and_text_outputs_are_read_and_images_are_said() -> None:
    document = notebook(
        {"cell_type": "markdown", "source": ["# Flow study\n", "The wheel slows."]},
        code(
            ["flow = read('gate.csv')\n", "print(flow)"],
            data(image_png=IMAGE, text_plain=["<Figure>"]),
            {"output_type": "stream", "name": "stdout", "text": ["mean ", "flow 4.2\n"]},
        ),
        {"cell_type": "raw", "source": "a raw cell"},
    )
    assert document.text == (
        "# Flow study\nThe wheel slows.\n\n```python\nflow = read('gate.csv')\nprint(flow)\n```\n\n"
        "```\n<Figure>\n```\n\n```\nmean flow 4.2\n```\n\na raw cell\n\n"
    )
    assert document.content_type == "markdown"
    assert dict(document.account.found) == {"cells": 3}
    (entry,) = document.account.entries
    assert (entry.code, entry.count, entry.places) == (Code.IMAGE, 1, ("cell 2",))


def test_no_image_in_a_markdown_cell_comes_into_the_text() -> None:
    inline = {"cell_type": "markdown", "source": f"before ![plot](data:image/png;base64,{IMAGE}) after"}
    attached = inline | {
        "source": "see ![p](attachment:p.png)",
        "attachments": {"p.png": {"image/png": IMAGE}},
    }
    document = notebook(inline, attached)
    assert document.text == "before ![plot]() after\n\nsee ![p](attachment:p.png)\n\n"
    assert document.account.entries[0].count == 2


def test_outputs_are_as_a_reader_of_the_page_sees_them() -> None:
    table = "<style>p {}</style><table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
    error = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[0;31mE\x1b[0m", "E: v"]}
    document = notebook(
        code("a", data(text_html=table, text_plain="   a\n0  1")),
        code("b", {"output_type": "stream", "text": "10%\r50%\r100%\ndone\r\n"}),
        code("c", error),
        code("d", data(text_markdown="**bold**", text_plain="<Markdown>")),
        code("e", data(text_latex="$x^2$")),
        code("f", {"output_type": "execute_result", "data": {"application/vnd.plotly.v1+json": {"a": [1]}}}),
        code("```\nfence\n```"),
        metadata={"language_info": {"name": "R"}, "title": "Study"},
    )
    parts = document.text.split("```r\n")
    assert "| a" in parts[1]
    assert "   a\n0" not in parts[1]
    assert parts[2] == "b\n```\n\n```\n100%\ndone\n```\n\n"
    assert "```\nE\nE: v\n```" in parts[3]
    assert "\x1b" not in document.text
    assert "**bold**" in parts[4]
    assert "$x^2$" in parts[5]
    assert document.text.endswith("````r\n```\nfence\n```\n````\n\n")
    assert document.title == "Study"
    assert Code.NOTEBOOK_WIDGET in {entry.code for entry in document.account.entries}


def test_notebooks_of_format_three_are_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Flow"]},
        {"cell_type": "code", "language": "python", "input": ["1+1"], "outputs": [
            {"output_type": "pyout", "text": ["2"], "png": IMAGE},
            {"output_type": "pyerr", "ename": "E", "evalue": "v", "traceback": []},
        ]},
    ]  # fmt: skip
    document = read_as(
        Format.NOTEBOOK, json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}).encode()
    )
    assert document.text == "## Flow\n\n```python\n1+1\n```\n\n```\n2\n```\n\n```\nE: v\n```\n\n"
    assert document.account.entries[0].code is Code.IMAGE


def test_a_broken_notebook_keeps_its_text_and_what_is_none_is_refused() -> None:
    cut = json.dumps({"cells": [{"cell_type": "markdown", "source": "The wheel slows."}]})[:-3].encode()
    document = read_as(Format.NOTEBOOK, cut)
    assert "The wheel slows." in document.text
    assert document.account.entries[0].code is Code.NOTEBOOK_BROKEN
    with pytest.raises(ParseError, match="is not a notebook"):
        read_as(Format.NOTEBOOK, b'{"a": 1}')
    odd = {"cells": [1, None, {"cell_type": "code", "source": {"a": 1}, "outputs": [3, {"data": []}]}]}
    assert '{"a": 1}' in read_as(Format.NOTEBOOK, json.dumps(odd).encode()).text
