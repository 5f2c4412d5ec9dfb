"""PDF, DOCX, EPUB and the rest through the sandbox: their text, or one line that says why not."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embedfleet.account import Account
from embedfleet.errors import ParseError
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.settings import ParsingSettings
from integration.parsing_corpus import archive, docx, epub, pdf


@pytest.fixture
async def sandbox() -> AsyncIterator[ParserSandbox]:
    async with ParserSandbox(ParsingSettings()) as sandbox:
        yield sandbox


async def test_a_word_document_is_read(sandbox: ParserSandbox) -> None:
    paragraphs = ["The title", "A snake_case word &amp; a *star*: AT&amp;T &lt;b&gt; caf&#233; &#x2014;."]
    document = await sandbox.parse_bytes(docx(paragraphs), name="a.docx")
    assert document.content_type == "markdown"
    assert document.text.splitlines()[0].lstrip("# ") == "The title"
    assert "A snake_case word & a *star*: AT&T <b> café —." in document.text


async def test_tabs_and_unbreakable_hyphens_of_a_word_document_separate_words(sandbox: ParserSandbox) -> None:
    runs = "a</w:t><w:tab/><w:t>b</w:t><w:noBreakHyphen/><w:t>c"
    assert (await sandbox.parse_bytes(docx(["T", runs]), name="a.docx")).text.splitlines()[-1] == "a b-c"


async def test_text_boxes_of_a_word_document_are_not_left_out_silently(sandbox: ParserSandbox) -> None:
    box = "<w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p></w:txbxContent>"
    paragraph = f"shown</w:t><w:pict>{box}</w:pict><w:t>"
    document = await sandbox.parse_bytes(docx(["T", paragraph]), name="a.docx")
    assert "boxed" in document.text


async def test_a_book_is_read_in_the_order_of_its_spine(sandbox: ParserSandbox) -> None:
    document = await sandbox.parse_bytes(epub({"One & <1>": "first text", "Two": "AT&T"}), name="a.epub")
    assert document.text == "# One & <1>\n\nfirst text\n\n# Two\n\nAT&T\n\n"


async def test_a_book_whose_spine_names_what_is_not_there_is_broken(sandbox: ParserSandbox) -> None:
    whole = epub({"One": "text"})
    with zipfile.ZipFile(io.BytesIO(whole)) as book:
        members = {name: book.read(name) for name in book.namelist() if not name.endswith(".xhtml")}
    with pytest.raises(ParseError, match="is broken"):
        await sandbox.parse_bytes(archive(members), name="a.epub")


async def test_a_pdf_is_read_page_by_page(sandbox: ParserSandbox) -> None:
    document = await sandbox.parse_bytes(pdf(["text of page one", "text of page two"]), name="a.pdf")
    assert document.text.split("\n\n") == ["text of page one", "text of page two\n"]


async def test_the_second_pdf_needs_no_second_loading_of_the_library(sandbox: ParserSandbox) -> None:
    for text in ("first", "second"):
        assert (await sandbox.parse_bytes(pdf([text]), name="a.pdf")).text.strip() == text


@pytest.mark.parametrize(
    ("name", "content_type", "text"),
    [
        ("a.md", "markdown", "# Head\n\nText with `code`.\n"),
        ("a.py", "code", "def f():\n\treturn  1\n"),
        ("a.yaml", "text", "# Settings\na: 1\n"),
        ("a.toml", "text", "[a]\nb = 1\n"),
        ("README", "text", "read me\n"),
        ("unknown.xyz", "text", "plain words\n"),
    ],
)
async def test_a_plain_text_file_is_kept_unchanged(
    sandbox: ParserSandbox, name: str, content_type: str, text: str
) -> None:
    document = await sandbox.parse_bytes(text.encode(), name=name)
    assert (document.text, document.content_type, document.account) == (text, content_type, Account())


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \n\t\n", "holds no text"),
        ("a.txt", "\u200b\u200c\u200d\ufeff\u2060 \u00ad\ufe0f\u2800\u3164\n".encode(), "holds no text"),
        ("a.html", b"<html><body><script>x</script></body></html>", "holds no text"),
        ("a.csv", b"\n\n", "holds no text"),
        ("a.txt", bytes(range(256)) * 10, "is not text"),
        ("a.pdf", pdf(["x"], encrypted=True), "is encrypted: remove the password"),
        ("a.pdf", pdf(["x"])[:150], "is broken"),
        ("a.pdf", b"<html>404 not found</html>", "is not a PDF file"),
        ("a.pdf", pdf([""]), "holds no text"),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000),
            "is an old Microsoft Office document, or encrypted",
        ),
        ("a.docx", docx(["x"])[:300], "is broken or not an Office document"),
        ("a.docx", archive({"other.xml": b"<a/>"}), "is a ZIP archive and not a document"),
        ("a.epub", docx(["x"]), "is not an EPUB book"),
        ("a.epub", b"no archive", "is broken or not an EPUB book"),
    ],
)
async def test_a_file_that_cannot_be_read_is_an_error_of_one_line(
    sandbox: ParserSandbox, name: str, data: bytes, reason: str
) -> None:
    with pytest.raises(ParseError) as caught:
        await sandbox.parse_bytes(data, name=name)
    message = str(caught.value)
    assert message.startswith(f"{name}: {reason}")
    assert ": " in message.removeprefix(f"{name}: "), "it says what to do"
    assert "\n" not in message
    assert len(message) < 250


async def test_a_name_of_control_characters_cannot_break_the_line(sandbox: ParserSandbox) -> None:
    with pytest.raises(ParseError) as caught:
        await sandbox.parse_bytes(b"", name="a\n\x1b[2J.txt")
    assert str(caught.value).isprintable()


async def test_a_file_name_that_is_not_unicode_can_be_read(sandbox: ParserSandbox, tmp_path: Path) -> None:
    path = tmp_path / "gr\udcf6sse.txt"
    path.write_text("words")
    assert (await sandbox.parse(path)).text == "words"
