"""What a folder walk picks up, and how a file of unknown name is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.parsing import formats
from embedfleet.parsing.format_descriptions import DESCRIPTIONS, codes_table, table
from embedfleet.parsing.formats import UNREADABLE, Format, format_of, is_supported
from embedfleet.parsing.signatures import format_from


def test_every_suffix_has_its_dot_and_is_lower_case() -> None:
    assert all(s == s.lower() and s.startswith(".") and s.count(".") == 1 for s in formats._BY_SUFFIX)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("notes.TXT", Format.TEXT),
        ("page.htm", Format.HTML),
        ("rows.tsv", Format.DELIMITED),
        ("events.jsonl", Format.JSON),
        ("main.rs", Format.CODE),
        ("Makefile", Format.CODE),
        ("LICENSE", Format.TEXT),
        ("book.epub", Format.EPUB),
    ],
)
def test_the_name_decides_how_a_file_is_read(name: str, form: Format) -> None:
    assert format_of(Path(name)) is form
    assert is_supported(Path("some/folder") / name)


@pytest.mark.parametrize("name", ["photo.jpg", ".env", "archive.zip", "pdf", "data"])
def test_a_folder_walk_leaves_other_files_alone(name: str) -> None:
    assert not is_supported(Path(name))


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"%PDF-1.7 ...", Format.PDF),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML>", Format.HTML),
        (b"PK\x03\x04....mimetypeapplication/epub+zip", Format.EPUB),
        (b"PK\x03\x04....[Content_Types].xml", Format.DOCX),
        (b"just words", Format.TEXT),
    ],
)
def test_a_file_of_unknown_name_is_read_by_its_first_bytes(head: bytes, form: Format) -> None:
    assert format_from(head) is form


def test_every_format_says_what_is_kept_and_left_out_of_it() -> None:
    """Describe a new format in `format_descriptions`: the command and the page come from there."""
    assert set(DESCRIPTIONS) == set(Format) - UNREADABLE


def test_the_page_about_formats_has_what_the_descriptions_say() -> None:
    """`python -m embedfleet.parsing.format_descriptions` prints the tables."""
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    assert table() in page
    assert codes_table() in page
