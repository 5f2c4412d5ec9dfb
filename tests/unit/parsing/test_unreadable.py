"""What cannot be read is refused by the name of what it is, and never for a suffix that is right."""

from __future__ import annotations

import pytest

from embedfleet.errors import ParseError
from embedfleet.parsing.formats import UNREADABLE, Format, format_of, is_supported
from embedfleet.parsing.signatures import OLE2
from embedfleet.parsing.unreadable import refuse
from support.office_files import paragraph, run, word, zipped
from support.reading import read_as


def ole2(*streams: str) -> bytes:
    """An OLE2 file that has streams of these names."""
    return OLE2 + bytes(600) + "".join(streams).encode("utf-16-le") + bytes(600)


def refusal(name: str, data: bytes) -> str:
    with pytest.raises(ParseError) as caught:
        read_as(format_of(name), data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.doc", ole2(), "is an old Word document: save it in the current format (.docx)"),
        ("a.doc", ole2("WordDocument"), "is an old Word document"),
        ("a.docx", ole2("WordDocument"), "is an old Word document"),
        ("a.bin", ole2("WordDocument"), "is an old Word document"),
        ("a.bin", ole2(), "is an old Microsoft Office document"),
        ("a.ppt", ole2(), "is an old PowerPoint presentation: save it in the current format (.pptx)"),
        ("a.pps", ole2("PowerPoint Document"), "is an old PowerPoint presentation"),
        ("a.docx", ole2("EncryptedPackage"), "is encrypted: remove the password"),
        ("a.doc", ole2("EncryptedPackage"), "is encrypted: remove the password"),
        ("a.vsd", ole2("VisioDocument"), "is a Visio drawing"),
        ("a.pub", ole2("Quill"), "is a Publisher document"),
        ("a.mpp", ole2(), "is a Microsoft Project plan"),
        ("a.wps", ole2(), "is a Microsoft Works document"),
        ("a.wps", b"\x01\xfe" + bytes(99), "is a Microsoft Works document"),
        ("a.hwp", ole2("HwpSummaryInformation"), "is a Hangul document"),
        ("a.msg", ole2("__properties_version1.0", "WordDocument"), "is an Outlook message: save it as .eml"),
        ("a.wpd", b"\xffWPC" + bytes(99), "is a WordPerfect document"),
        ("a.mdb", b"\x00\x01\x00\x00Standard Jet DB\x00", "is an Access database"),
        ("data", b"\x00\x01\x00\x00Standard ACE DB\x00", "is an Access database"),
        ("a.one", b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d" + bytes(99), "is a OneNote section"),
        ("a.sxw", zipped({"mimetype": "application/vnd.sun.xml.writer"}), "is an old OpenOffice document"),
        ("a.pages", zipped({"Index/Document.iwa": b"x"}), "is a Pages document"),
        ("a.key", zipped({"Index/Document.iwa": b"x", "Index/Slide-1.iwa": b"x"}), "is a Keynote"),
        ("a", zipped({"Index/Document.iwa": b"", "Index/CalculationEngine.iwa": b""}), "is a Numbers"),
        ("a.docx", zipped({"a.txt": "text"}), "is a ZIP archive and not a document: unpack it"),
        ("a.docx", b"no archive", "is broken or not an Office document"),
        ("a.docx", zipped({"_rels/.rels": "<", "word/document.xml": "<a"}), "is broken (word/document.xml"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name_with_what_to_do(
    name: str, data: bytes, message: str
) -> None:
    reason = refusal(name, data)
    assert reason.startswith(message)
    assert ": " in reason
    assert "suffix" not in reason
    assert "rename" not in reason


def test_every_format_that_is_not_read_has_a_refusal_and_a_walk_passes_over_it() -> None:
    assert all(": " in str(refuse(form)) for form in UNREADABLE)
    assert not is_supported("a.doc")
    assert is_supported("a.docx")


def test_a_file_with_the_suffix_of_a_refused_format_is_read_if_it_is_another_one() -> None:
    document = word(paragraph(run("current")))
    assert read_as(format_of("a.doc"), document).text.strip() == "current"
    assert read_as(format_of("a.key"), b"-----BEGIN PUBLIC KEY-----").text == "-----BEGIN PUBLIC KEY-----"
    assert read_as(format_of("a.doc"), b"<html><body><p>page</p></body></html>").text.strip() == "page"


def test_an_archive_is_read_as_what_it_holds_whatever_its_suffix_says() -> None:
    assert read_as(Format.DOCX, b"<html><body><p>page</p></body></html>").text.strip() == "page"


def test_a_document_type_is_refused_as_no_office_program_writes_one() -> None:
    entities = '<!DOCTYPE d [<!ENTITY x "y">]><d>&x;</d>'
    assert "it has a document type" in refusal("a.docx", zipped({"word/document.xml": entities}))
