"""A book keeps all that its chapters say; a chapter that cannot be read loses only itself, and is named."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import pytest

from embedfleet.account_codes import Code, Effect
from embedfleet.errors import ParseError
from embedfleet.parsing.formats import Format, ParsedDocument
from integration.parsing_corpus import epub
from support.reading import read_as

_THREE = {"ONE": "first text", "TWO": "second text", "THREE": "third text"}
_AES = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"
_FONT = "http://www.idpf.org/2008/embedding"
_PACKAGE = "OEBPS/content.opf"


def _read(book: bytes) -> ParsedDocument:
    return read_as(Format.EPUB, book)


def _lost(document: ParsedDocument) -> list[tuple[Code, int, tuple[str, ...]]]:
    return [(one.code, one.count, one.places) for one in document.account.lost]


def _page(body: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title>t</title></head><body>{body}</body></html>'
    ).encode()


def _encryption(algorithm: str, *names: str) -> bytes:
    entries = "".join(
        f'<e:EncryptedData><e:EncryptionMethod Algorithm="{algorithm}"/><e:CipherData>'
        f'<e:CipherReference URI="{name}"/></e:CipherData></e:EncryptedData>'
        for name in names
    )
    return (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        f'xmlns:e="http://www.w3.org/2001/04/xmlenc#">{entries}</encryption>'
    ).encode()


def _package(manifest: str, spine: str, more: str = "") -> dict[str, bytes]:
    return {
        _PACKAGE: (
            '<package xmlns="http://www.idpf.org/2007/opf"><metadata '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title> </dc:title>'
            f"<dc:title>Mill\nchronicle</dc:title></metadata><manifest>{manifest}</manifest>"
            f"<spine>{spine}</spine>{more}</package>"
        ).encode()
    }


def _without(book: bytes, *names: str) -> bytes:
    return _repacked(book, dict.fromkeys(names))


def _repacked(book: bytes, changed: Mapping[str, bytes | None]) -> bytes:
    """The book with other bytes, or without some members."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            data = changed.get(name, source.read(name))
            if data is not None:
                copy.writestr(name, data)
    return target.getvalue()


def _with_broken_bytes(book: bytes, part: bytes) -> bytes:
    """The book, whose members are not packed, with one byte of `part` changed: a wrong checksum."""
    stored = _repacked(book, {})
    assert stored.count(part) == 1
    return stored.replace(part, b"#" + part[1:])


def test_headers_footers_and_notes_of_chapters_are_text() -> None:
    page = _page(
        "<header><h1>CHAPTER ONE</h1><p class='epigraph'>EPIGRAPH water has no memory</p></header>"
        '<p>The bell<a epub:type="noteref" href="#n1">1</a> was silent.</p>'
        "<blockquote><p>A letter.</p><footer>Anna, 1902</footer></blockquote>"
        '<aside epub:type="footnote" id="n1"><p>The ringer had left.</p></aside>'
        "<nav><ol><li><a href='c1.xhtml'>Onwards</a></li></ol></nav>"
        "<footer><p>FOOTERNOTE end of the first chapter.</p></footer>"
    )
    document = _read(epub({"T": "t"}, extra={"OEBPS/c0.xhtml": page}))
    for text in ("# CHAPTER ONE\n", "EPIGRAPH water has no memory", "Anna, 1902", "The ringer had left."):
        assert text in document.text
    assert "FOOTERNOTE end of the first chapter." in document.text
    assert "bell1" not in document.text
    assert "Onwards" not in document.text
    assert [one.code for one in document.account.entries] == [Code.HTML_NAVIGATION]


def test_elements_that_are_closed_in_their_tag_and_character_data_lose_no_text() -> None:
    page = _page(
        '<h1>One</h1><p><a id="p1"/>A first page.</p><div class="break"/><p><i/>Then more, and </p>'
        "<p><![CDATA[data with 1 < 2 & more]]></p><p>the <span id='x' />end</p>"
    )
    document = _read(epub({"T": "t"}, extra={"OEBPS/c0.xhtml": page}))
    assert (
        document.text == "# One\n\nA first page.\n\nThen more, and\n\ndata with 1 < 2 & more\n\nthe end\n\n"
    )


def test_a_damaged_chapter_loses_that_chapter_only() -> None:
    document = _read(_with_broken_bytes(epub(_THREE), b"second text"))
    assert document.text == "# ONE\n\nfirst text\n\n# THREE\n\nthird text\n\n"
    (code, count, places) = _lost(document)[0]
    assert (code, count, len(_lost(document))) == (Code.EPUB_CHAPTER, 1, 1)
    assert places[0].startswith("OEBPS/c1.xhtml: Bad CRC-32")
    assert dict(document.account.found) == {"chapters": 2}
    assert 0 < (document.account.lost[0].chars or 0) < 30, "about as many letters as the others have"


def test_a_missing_and_an_undecodable_chapter_are_named() -> None:
    book = _repacked(epub(_THREE), {"OEBPS/c0.xhtml": None, "OEBPS/c1.xhtml": bytes(range(32)) * 20})
    document = _read(book)
    assert document.text == "# THREE\n\nthird text\n\n"
    assert _lost(document)[0][:2] == (Code.EPUB_CHAPTER, 2)
    missing, undecodable = _lost(document)[0][2]
    assert missing == "OEBPS/c0.xhtml: is not in the file"
    assert undecodable.startswith("OEBPS/c1.xhtml: is not text")
    assert undecodable.endswith(")"), "without the advice for files"


def test_a_chapter_that_the_spine_names_and_the_manifest_does_not_is_said() -> None:
    manifest = '<item id="a" href="c0.xhtml" media-type="application/xhtml+xml"/>'
    spine = '<itemref idref="a"/><itemref idref="lost"/>'
    document = _read(epub({"ONE": "text"}, extra=_package(manifest, spine)))
    assert _lost(document) == [(Code.EPUB_CHAPTER, 1, ("lost: is not in the file",))]


def test_a_protected_book_is_named_so() -> None:
    names = [f"OEBPS/c{i}.xhtml" for i in range(3)]
    noise = {name: bytes(range(256)) * 12 for name in names}
    with pytest.raises(ParseError, match=r"^is protected \(DRM\): its chapters are encrypted"):
        _read(epub(_THREE, extra={**noise, "META-INF/encryption.xml": _encryption(_AES, *names)}))
    with pytest.raises(ParseError, match="is protected"):
        _read(epub(_THREE, extra={**noise, "META-INF/rights.xml": b"<rights/>"}))


def test_only_the_protected_chapters_of_a_book_are_lost() -> None:
    members = {
        "META-INF/encryption.xml": _encryption(_AES, "OEBPS/c%31.xhtml"),
        "OEBPS/c1.xhtml": bytes(range(256)) * 12,
    }
    document = _read(epub(_THREE, extra=members))
    assert document.text == "# ONE\n\nfirst text\n\n# THREE\n\nthird text\n\n"
    assert _lost(document) == [(Code.EPUB_PROTECTED, 1, ("OEBPS/c1.xhtml",))]


@pytest.mark.parametrize(
    "encryption",
    [_encryption(_FONT, "OEBPS/c0.xhtml"), _encryption(_AES, "OEBPS/font.otf"), b"<broken"],
    ids=["obfuscated", "only a font", "broken"],
)
def test_hidden_fonts_protect_no_text(encryption: bytes) -> None:
    document = _read(epub(_THREE, extra={"META-INF/encryption.xml": encryption}))
    assert (document.text.count("text"), document.account.entries) == (3, ())


def test_the_title_is_that_of_the_book_unless_its_text_begins_with_it() -> None:
    assert _read(epub(_THREE)).title == "A Small Book"
    assert _read(epub({"A Small Book": "text"})).title is None


def test_contents_are_left_out_and_said_whether_the_book_calls_them_nav_or_toc() -> None:
    contents = _page("<h1>Contents</h1><ol><li><a href='c0.xhtml'>Chapter one</a></li></ol>")
    manifest = (
        '<item id="a" href="c0.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="scripted nav"/>'
        '<item id="t" href="toc.html" media-type="text/html"/>'
        '<item id="c" href="cover.svg" media-type="image/svg+xml"/>'
    )
    spine = "".join(f'<itemref idref="{one}"/>' for one in "cntaa")
    guide = '<guide><reference type="toc" href="toc.html#x"/></guide>'
    pages = {"OEBPS/nav.xhtml": contents, "OEBPS/toc.html": contents, "OEBPS/cover.svg": b"<svg/>"}
    document = _read(epub({"ONE": "text"}, extra={**_package(manifest, spine, guide), **pages}))
    assert document.text == "# ONE\n\ntext\n\n"
    assert document.title == "Mill chronicle"
    (entry,) = document.account.entries
    assert (entry.code, entry.count, entry.places) == (
        Code.HTML_NAVIGATION,
        2,
        ("OEBPS/nav.xhtml", "OEBPS/toc.html"),
    )


def test_a_name_in_other_cases_and_a_folder_above_are_found() -> None:
    manifest = '<item id="a" href="../TEXT/C%20one.XHTML" media-type="application/xhtml+xml"/>'
    members = {**_package(manifest, '<itemref idref="a"/>'), "text/c one.xhtml": _page("<p>Found.</p>")}
    assert _read(epub({"T": "t"}, extra=members)).text == "Found.\n\n"


@pytest.mark.parametrize("package", [b"<package>&oops</package>", b"", b"<package/>", None])
def test_a_book_without_a_list_of_chapters_is_read_in_the_order_of_names(package: bytes | None) -> None:
    chapters = {f"T{i}": f"text {i}" for i in range(12)}
    document = _read(_repacked(epub(chapters), {_PACKAGE: package}))
    assert [line[2:] for line in document.text.splitlines() if line.startswith("# ")] == list(chapters)
    assert [one.code for one in document.account.entries] == [Code.EPUB_ORDER]
    assert document.account.entries[0].effect is Effect.DOUBT


def test_a_book_of_no_page_is_broken() -> None:
    with pytest.raises(ParseError, match="is broken"):
        _read(_without(epub({"ONE": "text"}), "OEBPS/c0.xhtml"))
    with pytest.raises(ParseError, match="it has no chapters"):
        _read(_without(epub({"ONE": "text"}), "OEBPS/c0.xhtml", _PACKAGE))
