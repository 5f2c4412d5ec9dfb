"""A text is read in the encoding it was written in, whatever its language, or the guess is said to be one."""

from __future__ import annotations

import pytest

from embedfleet.parsing import decoding
from embedfleet.parsing.charset_labels import declared_in, known_codec
from embedfleet.parsing.formats import Format, ParsedDocument
from support.languages import LANGUAGES, Language
from support.reading import read_as


def _text(data: bytes) -> ParsedDocument:
    return read_as(Format.TEXT, data)


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
def test_a_few_lines_are_read_in_each_code_page_of_their_language(language: Language) -> None:
    text = "\n".join(language.lines)
    for codec in (*language.codecs, "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        assert _text(text.encode(codec)).text == text, codec


def test_a_single_line_is_hardly_ever_misread_and_never_without_a_doubt() -> None:
    lines = [
        (line, codec)
        for language in LANGUAGES
        for codec in language.codecs
        if not codec.startswith("mac")  # one line of Macintosh Cyrillic may be Windows Cyrillic
        for line in language.lines
    ]
    documents = [(_text(line.encode(codec)), line) for line, codec in lines]
    misread = [document for document, line in documents if document.text != line]
    assert len(misread) <= len(lines) * 0.025  # as measured: docs/encodings.md
    assert all("or else" in document.account.warnings[0] for document in misread)


TURKISH = (
    "Değirmenin çarkı bu sabah durdu. İşçiler ırmağın taştığını söyledi. Şimdi su çekilene kadar "
    "bekleyeceğiz. Öğleden sonra ağır taşlar kaldırılacak."
)
CROATIAN = (
    "Mlinar je rekao da se voda prelijeva preko brane. Zatvorite ustavu prije nego što bude prekasno! "
    "Sutra će padati snijeg."
)


@pytest.mark.parametrize(("text", "codec"), [(TURKISH, "cp1254"), (CROATIAN, "cp1250")])
def test_what_is_surely_found_is_in_the_account_without_a_warning(text: str, codec: str) -> None:
    document = _text((text + "\n").encode(codec) * 3)
    assert document.text == (text + "\n") * 3
    assert document.account.found == ((f"texts in {codec}", 1),)
    assert document.account.warnings == ()


def test_a_guess_that_may_be_wrong_names_the_next_likely_encoding() -> None:
    document = _text("Nesër, te ura.".encode("cp1252"))
    (entry,) = document.account.entries
    assert entry.code == "encoding.guessed"
    assert ", or else " in entry.places[0]


@pytest.mark.parametrize(
    "text",
    ["It’s closed.", "The price is £5.", "It costs 5 €.", "10\xa0000 litres", "• one\n• two\n• three\n"],
)
def test_english_with_a_quote_or_a_sign_is_windows_1252(text: str) -> None:
    assert _text(text.encode("cp1252")).text == text


def test_vendor_characters_of_windows_932_are_no_reason_to_doubt_japanese() -> None:
    table = "番号,品名,備考\r\n①,鋼製ボルト～小,髙橋倉庫に在庫あり\r\n②,ステンレス板,在庫なし\r\n".encode(
        "cp932"
    )
    document = read_as(Format.DELIMITED, table)
    assert "番号: ①" in document.text
    assert "髙橋倉庫に在庫あり" in document.text
    assert document.account.lost == ()


EUC_JP = bytes.fromhex("c8d6b9e6a1a7ada120fce2b6b6a1a3c1d2b8cba4cba4a2a4ea")
ISO_2022_JP = b"\x1b$BHV9f!'-!\x1b(B a"


@pytest.mark.parametrize(
    ("data", "text"),
    [(EUC_JP, "番号：① 髙橋。倉庫にあり"), (ISO_2022_JP, "番号：① a")],
    ids=["euc-jp", "iso-2022-jp"],
)
def test_vendor_characters_are_read_in_the_other_japanese_encodings_too(data: bytes, text: str) -> None:
    assert _text(data).text == text


def test_a_broken_character_of_a_declared_japanese_text_is_replaced_and_counted() -> None:
    page = b'<meta charset="euc-jp"><p>' + "水門を閉めてください。".encode("euc_jp") * 5 + b"\xa4 end</p>"
    document = read_as(Format.HTML, page)
    assert document.text.startswith("水門を閉めてください。")
    assert "\ufffd" in document.text
    assert [entry.count for entry in document.account.lost] == [1]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text",
    [
        "Sluice gate log\r\n",
        "水門を閉めてください。\n",
        "सर्वेभ्यो नमः।\n",
        "เปิดประตูน้ำ\n",
        "gate 3 😀 ✓\n",
        "Қызыл қала\n",
        "Ən köhnə fayl\n",
        "پیوند گرم\n",
    ],
)
def test_unicode_without_a_byte_order_mark_is_read(text: str, codec: str) -> None:
    document = _text(text.encode(codec) * 3)
    assert document.text == text.replace("\r", "") * 3
    assert document.account.found == ((f"texts in {codec}", 1),)


def test_chinese_in_utf16_whose_bytes_are_no_control_characters_is_read() -> None:
    text = "ファイルまたはフォルダが存在しません"
    assert not any(byte < 32 for byte in text.encode("utf-16-le"))
    assert _text(text.encode("utf-16-le")).text == text


def test_korean_in_seven_bits_may_begin_with_ascii() -> None:
    assert _text("URL 개 붙여넣기(P)".encode("iso2022_kr")).text == "URL 개 붙여넣기(P)"


def test_plain_english_is_never_taken_for_chinese_in_utf16() -> None:
    assert _text(b"Bush hid the facts").text == "Bush hid the facts"


def test_japanese_in_seven_bits_is_read_and_terminal_escapes_are_left_alone() -> None:
    japanese = "粉屋は水が堰を越えると言った。\n手遅れになる前に水門を閉めてください。\n"
    assert _text(japanese.encode("iso2022_jp")).text == japanese
    log = "\x1b[31merror\x1b(B\x1b[m in ~{tilde}\n" * 3
    assert _text(log.encode()).text == log


def test_the_sample_is_taken_where_the_letters_are_however_late_in_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "BLOCK_BYTES", 1 << 14)
    english = "The gate was closed at noon; the café was not.\n".encode("cp1250")
    plain = b"The gate was closed at noon.\n" * 5000
    data = english + plain + (CROATIAN + "\n").encode("cp1250") * 20
    assert CROATIAN in _text(data).text


def test_an_endless_line_that_is_not_utf8_takes_no_endless_time() -> None:
    data = b"a" * 3_000_000 + "će".encode("cp1250") + b"a" * 3_000_000
    assert len(_text(data).text) == 6_000_002


def test_utf8_that_ends_within_a_character_stays_utf8() -> None:
    document = _text("größe: ä".encode()[:-1])
    assert document.text == "größe: \ufffd"
    assert document.account.warnings[0].startswith("lost: 1 ")


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("x-sjis", "水門を閉めてください。"),
        ("x-cp1251", "Закройте шлюз."),
        ("windows-1257", "Aš nežinojau."),
        ("latin5", "Öğle ışığı"),
        ("iso-8859-8-i", "שלום"),
        ("dos-874", "น้ำ"),
        ("x-euc-jp", "水門"),
        ("ks_c_5601-1987", "수문"),
        ("csbig5", "水閘"),
        ("x-gbk", "水闸"),
        ("koi8", "шлюз"),
        ("x-mac-cyrillic", "шлюз"),
        ("iso-2022-jp", "水門"),
    ],
)
def test_a_page_is_read_by_the_label_it_declares(label: str, text: str) -> None:
    codec = known_codec(label)
    assert codec is not None
    head = f'<!doctype html><html><head><meta charset="{label}"><title>t</title></head><body>'
    page = head.encode() + f"<p>{text}</p></body></html>".encode(codec)
    document = read_as(Format.HTML, page)
    assert document.text.strip() == text
    assert document.account.warnings == ()


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        (b'<?xml version="1.0" encoding="KOI8-R"?>', "koi8-r"),
        (b"#!/usr/bin/python\n# -*- coding: latin-1 -*-\n", "cp1252"),
        (b"/* vim: set fileencoding=cp1250 : */", "cp1250"),
        (b'@charset "windows-1253";', "cp1253"),
        (b"\\documentclass{book}\n\\usepackage[latin2]{inputenc}\n", "iso8859-2"),
        (b'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=ISO-8859-9\\n"\n', "cp1254"),
        (b"<!-- <meta charset=big5> --><meta charset=koi8-r>", "koi8-r"),
        (b"the coding: none", None),
        (b'<meta charset="unheard-of">', None),
    ],
)
def test_what_files_declare_in_their_own_ways_is_found(head: bytes, codec: str | None) -> None:
    assert declared_in(head) == codec


def test_valid_utf8_is_utf8_whatever_the_page_declares() -> None:
    page = '<meta charset="iso-8859-1"><p>Größe, naïve, Señor</p>'.encode()
    assert read_as(Format.HTML, page).text.strip() == "Größe, naïve, Señor"


def test_a_default_that_makes_no_words_is_not_believed_and_that_is_said() -> None:
    text = "Мельник закрыл шлюз в полдень. Завтра пойдёт снег, сказал дед."
    page = b'<meta charset="iso-8859-1"><p>' + text.encode("cp1251") + b"</p>"
    document = read_as(Format.HTML, page)
    assert document.text.strip() == text
    assert "declared as cp1252, read as cp1251" in document.account.warnings[0]
