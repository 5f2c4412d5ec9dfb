"""Files made to do harm end in text or in one clear line; nothing outside of them is read or written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from embedfleet.errors import ParseError
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.settings import ParsingSettings
from integration.parsing_corpus import docx, docx_of, epub, pdf

_MEGABYTE = 1_000_000
_LAUGHS = (
    "<!DOCTYPE d [<!ENTITY a0 'lol'>"
    + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 13))
    + "]>"
)
_DEEP_TABLE = "<w:tbl><w:tr><w:tc>" * 20_000 + "<w:p/>" + "</w:tc></w:tr></w:tbl>" * 20_000
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_BOMB_TEXT = "a" * 100 * _MEGABYTE

HOSTILE: dict[str, Callable[[], bytes]] = {
    "bomb.docx": lambda: docx(["T", _BOMB_TEXT]),
    "bomb.epub": lambda: epub({"T": _BOMB_TEXT}),
    "laughs.docx": lambda: docx(["T", "&a12;"], doctype=_LAUGHS),
    "laughs.epub": lambda: epub(
        {"T": "t"}, extra={"META-INF/container.xml": f"{_LAUGHS}<c>&a12;</c>".encode()}
    ),
    "deep.docx": lambda: docx_of(f"<w:document {_WORD}><w:body>{_DEEP_TABLE}</w:body></w:document>"),
    "deep.html": lambda: b"<div>" * _MEGABYTE + b"text",
    "tables.html": lambda: b"<table><tr><td>" * 20_000 + b"text",
    "lists.html": lambda: b"<ul><li>" * 20_000 + b"text",
    "attributes.html": lambda: b"<p " + b"a=b " * _MEGABYTE + b">text",
    "comment.html": lambda: b"text<!--" + b"-" * 5 * _MEGABYTE,
    "self-closed.html": lambda: b"<script " * 200_000 + b"text",
    "fences.html": lambda: b"<pre>```</pre>" * 20_000 + b"text",
    "deep.json": lambda: b'{"a":[' * _MEGABYTE,
    "unclosed.json": lambda: b'"' + b'\\"' * _MEGABYTE,
    "line.txt": lambda: b"word " * 2 * _MEGABYTE,
    "laughs.xml": lambda: f"{_LAUGHS}<doc>&a12;</doc>".encode(),
    "deep.xml": lambda: b"<a>" * 200_000 + b"text",
    "commands.tex": lambda: b"\\begin{verbatim}\\section{$" * 20_000,
    "line.md": lambda: b"[" * _MEGABYTE,
    "quote.csv": lambda: b'a,b\n"' + b"x,\n" * _MEGABYTE,
    "wide.csv": lambda: b"," * _MEGABYTE + b"\n1" + b"," * _MEGABYTE,
    "marks.txt": lambda: b"\xff\xfe" + b"\x00\xd8" * _MEGABYTE,
    "objects.pdf": lambda: b"%PDF-1.7\n" + b"1 0 obj\n<< /Kids [1 0 R] >>\nendobj\n" * 50_000,
    "loop.pdf": lambda: (
        pdf(["x"]).replace(b"/Parent 2 0 R", b"/Parent 4 0 R").replace(b"[4 0 R]", b"[2 0 R]")
    ),
    "noise.docx": lambda: b"PK\x03\x04" + os.urandom(100_000),
    "noise.pdf": lambda: b"%PDF-1.7\n" + os.urandom(100_000),
}


async def outcome(sandbox: ParserSandbox, data: bytes, name: str) -> str:
    """The file's text, or the message that says why there is none. Any other exception fails the test."""
    try:
        return (await sandbox.parse_bytes(data, name=name)).text
    except ParseError as exc:
        return str(exc)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_ends_in_text_or_one_line_and_the_next_file_works(name: str) -> None:
    limits = ParsingSettings(
        cpu_seconds=2, timeout_seconds=60, memory_mb=1024, max_output_chars=50 * _MEGABYTE
    )
    async with ParserSandbox(limits) as sandbox:
        answer = await outcome(sandbox, HOSTILE[name](), name)
        assert (await sandbox.parse_bytes(b"fine", name="next.txt")).text == "fine"
    assert answer.strip()
    if answer.startswith(f"{name}: "):
        assert "\n" not in answer
        assert len(answer) < 250


async def test_an_archive_bomb_is_refused_before_it_is_unpacked() -> None:
    async with ParserSandbox(ParsingSettings(memory_mb=256)) as sandbox:
        for name in ("bomb.docx", "bomb.epub"):
            with pytest.raises(ParseError, match="like an archive bomb"):
                await sandbox.parse_bytes(HOSTILE[name](), name=name)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that nothing may read into a document."""
    path = tmp_path / "canary.txt"
    path.write_text("CANARY")
    return path


async def test_no_external_entity_is_read(canary: Path) -> None:
    doctype = f'<!DOCTYPE d [<!ENTITY x SYSTEM "{canary.as_uri()}">]>'
    page = f"{doctype}<html xmlns='http://www.w3.org/1999/xhtml'><body><p>before &x; after</p></body></html>"
    container = (
        f'{doctype}<container><rootfiles>&x;<rootfile full-path="OEBPS/content.opf"/></rootfiles></container>'
    )
    files = {
        "a.docx": docx(["T", "before &x; after"], doctype=doctype),
        "a.xhtml": page.encode(),
        "a.epub": epub({"T": "t"}, extra={"OEBPS/c0.xhtml": page.encode()}),
        "b.epub": epub({"T": "t"}, extra={"META-INF/container.xml": container.encode()}),
    }
    async with ParserSandbox(ParsingSettings()) as sandbox:
        for name, data in files.items():
            assert "CANARY" not in await outcome(sandbox, data, name)


async def test_no_path_leads_out_of_an_archive(canary: Path, tmp_path: Path) -> None:
    outside = {f"{'../' * 12}{tmp_path}/planted.txt": b"x", f"{tmp_path}/planted.txt": b"x"}
    async with ParserSandbox(ParsingSettings()) as sandbox:
        document = await sandbox.parse_bytes(epub({"T": "t"}, extra=outside), name="a.epub")
        assert document.text == "# T\n\nt\n\n"
        leading_out = epub({"T": "t"}, extra={"OEBPS/content.opf": _book_of(f"{'../' * 12}{canary}")})
        with pytest.raises(ParseError, match="is broken"):
            await sandbox.parse_bytes(leading_out, name="b.epub")
    assert os.listdir(tmp_path) == ["canary.txt"]


def _book_of(href: str) -> bytes:
    return (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
        f'<item id="a" href="{href}" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="a"/></spine></package>'
    ).encode()
