"""No mojibake and no U+FFFD comes silently; what is not text is refused."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.account import AccountKeeper
from embedfleet.errors import ParseError
from embedfleet.parsing import decoding
from embedfleet.parsing.charset_labels import known_codec
from embedfleet.parsing.decoding import Encoding, decode
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import Format
from embedfleet.parsing.text import whole_text
from support.reading import read_as


def _read(data: bytes, declared: str | None = None) -> tuple[str, tuple[str, ...]]:
    draft = Draft(lambda text: None)
    text = whole_text(io.BytesIO(data), draft, declared=declared)
    return text, tuple(entry.line for entry in draft.account.account.entries)


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_text_is_read_without_a_warning(codec: str) -> None:
    assert _read("Größe, 大きさ, 😀\n".encode(codec)) == ("Größe, 大きさ, 😀\n", ())


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_decides_and_is_no_text(codec: str) -> None:
    assert _read("\ufeffabc".encode(codec)) == ("abc", ())


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.integers(1, 7))
def test_utf8_comes_out_as_it_is_wherever_blocks_end(text: str, block_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "BLOCK_BYTES", block_bytes)
        assert _read(text.encode()) == (text.removeprefix("\ufeff"), ())


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 1 << 20])
def test_every_line_ends_in_one_line_feed(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK_BYTES", block_bytes)
    assert _read(b"a\r\nb\rc\n\r\nd") == ("a\nb\nc\n\nd", ())


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("Die Größe der Tür beträgt fünf Meter – “schön”. Das kostet 5 €. ", "cp1252"),
        ("Le café coûte cinq euros à Noël; où êtes-vous? Ça va très bien. ", "cp1252"),
        ("El niño comió una manzana en el jardín. ¿Cómo está usted? Mañana. ", "cp1252"),
        ("A plain English text, mostly, with a café and a naïve “quote” here. ", "cp1252"),
        ("Alla människor är födda fria och lika i värde och rättigheter. ", "cp1252"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy. Zažółć gęślą jaźń. ", "cp1250"),
        ("Привет, как дела? Сегодня хорошая погода и мы идём гулять. ", "cp1251"),
        ("今日は天気がいいので、公園へ散歩に行きましょう。日本語のテキストです。", "cp932"),
        ("今天天气很好，我们去公园散步吧。这是中文文本。", "gb18030"),
    ],
)
def test_a_legacy_encoding_is_found_and_said(text: str, codec: str) -> None:
    read = read_as(Format.TEXT, (text * 5).encode(codec))
    assert read.text == text * 5
    said = [name for name, _ in read.account.found] or [entry.line for entry in read.account.entries]
    assert codec in said[0]


def test_a_broken_byte_in_utf8_text_is_replaced_and_counted() -> None:
    text, (warning,) = _read(("größe " * 50).encode() + b"\xff end")
    assert text == "größe " * 50 + "\ufffd end"
    assert warning.startswith("lost: 1 ")


def test_a_replacement_character_the_author_wrote_is_no_cause_for_a_warning() -> None:
    assert _read("\ufffd means lost".encode()) == ("\ufffd means lost", ())


def test_half_a_surrogate_pair_never_comes_out() -> None:
    text, (warning,) = _read("\ufeffa".encode("utf-16-le") + b"\x00\xd8" + "b".encode("utf-16-le"))
    text.encode("utf-8")
    assert "replaced" in warning


def test_a_few_nul_characters_are_left_out_and_counted() -> None:
    text, (warning,) = _read(b"line\n" * 1000 + b"\0\0")
    assert text == "line\n" * 1000
    assert warning == "left out: 2 NUL characters"


@pytest.mark.parametrize(
    "data",
    [
        random.Random(7).randbytes(10_000),
        b"\x89PNG\r\n\x1a\n" + b"text" * 100,
        b"%PDF-1.4 text",
        b"\x7fELF" + b"text" * 100,
        b"text " * 20_000 + bytes(range(9)) * 1000,
    ],
    ids=["noise", "png", "pdf", "program", "late"],
)
def test_a_binary_file_is_refused_as_text(data: bytes) -> None:
    with pytest.raises(ParseError, match="is not text"):
        _read(data)


def test_terminal_colours_in_a_log_are_text() -> None:
    line = "\x1b[31merror\x1b[0m\n"
    assert _read(line.encode() * 10) == (line * 10, ())


def test_what_a_page_declares_wins_over_a_guess() -> None:
    assert _read("Ä".encode("cp1251", "ignore") + "Привет".encode("cp1251"), "cp1251") == ("Привет", ())


def test_a_declaration_that_does_not_fit_is_ignored() -> None:
    assert _read("Größe".encode(), "ascii") == ("Größe", ())


@pytest.mark.parametrize(
    ("label", "codec"),
    [("ISO-8859-1", "cp1252"), ("windows-1251", "cp1251"), ("gb2312", "gb18030"), ("UTF-8", "utf-8")],
)
def test_labels_mean_what_browsers_take_them_for(label: str, codec: str) -> None:
    assert known_codec(label) == codec


@pytest.mark.parametrize("label", ["base64", "rot13", "no-such", "utf-16", "x\0y"])
def test_labels_that_cannot_be_a_pages_encoding_count_for_nothing(label: str) -> None:
    assert known_codec(label) is None


def test_a_file_that_changes_between_the_passes_is_an_error_not_garbage() -> None:
    with pytest.raises(ParseError, match="changed while it was read"):
        decode(io.BytesIO(b"ok \xff"), Encoding("utf-8", exact=True), lambda piece: None, AccountKeeper())
