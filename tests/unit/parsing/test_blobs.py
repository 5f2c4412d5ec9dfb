"""Encoded data is left out of a text and said; what may be language stays, however long it is."""

from __future__ import annotations

import base64
import random
from collections.abc import Sequence

import pytest

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import Format
from support.reading import read_as

_BYTES = random.Random(5).randbytes(3000)
_BASE64 = base64.b64encode(_BYTES).decode()


def _filtered(pieces: Sequence[str]) -> tuple[str, Draft]:
    written: list[str] = []
    draft = Draft(written.append)
    for piece in pieces:
        draft.write(piece)
    draft.finish()
    return "".join(written), draft


def _lines_of(text: str, width: int = 76) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


@pytest.mark.parametrize(
    "blob",
    [
        _BASE64,
        _BASE64[:240],
        _BASE64.replace("+", "-").replace("/", "_"),
        base64.b64encode(b"The water came at two in the morning. " * 9).decode(),
        base64.b64encode(bytes(2000) + _BYTES).decode(),
        _BYTES.hex(),
        _BYTES[:120].hex().upper(),
        _lines_of(_BASE64),
        _lines_of(_BASE64, 64),
        f"data:image/png;base64,{_BASE64}",
        "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==",
        "data:application/font-woff;charset=utf-8;base64," + _BASE64,
        "data:image/svg+xml,%3Csvg%20xmlns=%22http://www.w3.org/2000/svg%22%3E%3Cpath/%3E%3C/svg%3E",
        "".join(f"\\x{byte:02x}" for byte in _BYTES[:100]),
        ", ".join(f"0x{byte:02x}" for byte in _BYTES[:100]),
    ],
    ids=lambda blob: blob[:24],
)
def test_encoded_data_is_left_out_and_said(blob: str) -> None:
    text, draft = _filtered([f"First line.\nSeal: {blob[:0]}\n{blob}\n\nLast line."])
    assert text == "First line.\nSeal: \n\n\nLast line."
    (entry,) = draft.account.account.entries
    assert (entry.code, entry.count, entry.places) == (Code.ENCODED_DATA, 1, ("line 3",))
    assert entry.chars == len("".join(blob.split()))


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/d?token=" + _BASE64[:900].replace("+", "-").replace("/", "_"),
        "ACGT" * 200 + "\n" + "acgtn" * 100,
        "\n".join(["MVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSFPTTKTYFPHFDLSHGSAQVKGHGKKVADALT"] * 9),
        "3.14159265358979323846264338327950288419716939937510" * 9,
        "31415926535897932384626433832795028841971693993751" * 9,
        "水門は正午に閉じられた。" * 100,
        "ประตูน้ำปิดตอนเที่ยง" * 60,
        "closeTheUpperGateBeforeTheLowerGateIsOpened" * 8,
        "getStep1OfTheGateThenStep2OfTheWheelThenStep3OfTheWeir" * 6,
        "this-is-the-slug-of-a-very-long-title-" * 9,
        "/usr/lib/python3/dist-packages/Package/module_name" * 9,
        "=" * 400 + "\n" + "-" * 400 + "\n" + "_" * 300,
        "AAAAAAAAAAAAAAAAAAAAA" * 30,
        "|" + "-" * 80 + "|" + "-" * 80 + "|\n" + "+" + "-" * 78 + "+\n" * 5,
        "sha512-" + base64.b64encode(_BYTES[:64]).decode(),
        "A text says `data:image/png;base64,` and goes on, data: 5, 0x10, 0x11.",
        "The colours are 0x00, 0xff, and the key is " + _BYTES[:32].hex() + ".",
        "word " * 5000,
    ],
    ids=lambda text: text[:24],
)
def test_what_may_be_language_stays(text: str) -> None:
    kept, draft = _filtered([text])
    assert kept == text
    assert draft.account.account.entries == ()


@pytest.mark.parametrize("size", [1, 7, 64, 500, 4096])
def test_the_same_is_left_out_wherever_the_pieces_end(size: int) -> None:
    picture = f"![a chart](data:image/png;base64,{_BASE64})"
    source = f"One two three.\n\n{picture}\n\nfour five\n{_lines_of(_BASE64)}\nsix"
    whole, draft = _filtered([source])
    assert whole == "One two three.\n\na chart\n\nfour five\n\nsix"
    pieces = [source[at : at + size] for at in range(0, len(source), size)]
    kept, in_pieces = _filtered(pieces)
    assert kept.replace("![a chart]()", "a chart") == whole
    assert in_pieces.account.account.entries[0].places == draft.account.account.entries[0].places
    assert in_pieces.account.account.entries[0].count == 2


def test_the_text_between_two_pictures_stays_in_any_format() -> None:
    picture = f'<img src="data:image/png;base64,{_BASE64}" alt="x">'
    text = read_as(Format.TEXT, f"{picture} The seal. {picture}".encode()).text
    assert text == '<img src="" alt="x"> The seal. <img src="" alt="x">'
    assert read_as(Format.CODE, f'SEAL = "{_BASE64}"\n'.encode()).text == 'SEAL = ""\n'


def test_pages_begin_where_they_did() -> None:
    written: list[str] = []
    draft = Draft(written.append)
    for page in (1, 2):
        draft.begin_page(page)
        draft.write(f"Page {page}: {_BASE64}")
    draft.finish()
    assert draft.places.pages == ((0, 1), (8, 2))
