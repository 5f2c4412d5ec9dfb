"""Source code stays as it is; minified lines are left out and said."""

from __future__ import annotations

import pytest

from embedfleet.account import Account
from embedfleet.account_codes import Code
from embedfleet.parsing.formats import Format
from support.reading import read_as

_SCRIPT = (
    "!function(e,t){var n=e.a;if(n&&t.b)return n(t);for(var i=0;i<5;i++)t[i]=function(r){return r+i}}(x,y);"
)
_STYLE = '.a{color:#fff;margin:0}.b>c{padding:1px 2px;font:12px "A"}@media(x){d{top:0}}'


@pytest.mark.parametrize("minified", [_SCRIPT * 20, _STYLE * 20], ids=["script", "style"])
def test_minified_code_is_left_out_and_said(minified: str) -> None:
    document = read_as(Format.CODE, f"/*! gates v3 */{minified}\n// end\n".encode())
    assert (document.text, document.content_type) == ("/*! gates v3 */\n// end\n", "code")
    (entry,) = document.account.entries
    assert (entry.code, entry.count, entry.places) == (Code.MINIFIED_CODE, 1, ("line 1",))
    assert entry.chars == len(minified.replace(" ", ""))


@pytest.mark.parametrize(
    "code",
    [
        _SCRIPT + "\n" + _STYLE + "\n",
        "INSERT INTO gates VALUES " + ",".join(f"({i},'gate {i}','open')" for i in range(200)) + ";\n",
        "DATA = {" + ",".join(f"'gate{i}':[{i},{i}]" for i in range(200)) + "}\n",
        "x = '" + "The water came at two in the morning; then it went. " * 40 + "'\n",
        "s = '" + "水門は正午に閉じられた。" * 200 + "'\n",
        "def f():\n    return 1\n" * 200,
    ],
    ids=["short", "sql", "table", "prose", "japanese", "lines"],
)
def test_other_long_lines_stay(code: str) -> None:
    document = read_as(Format.CODE, code.encode())
    assert (document.text, document.account) == (code, Account())
