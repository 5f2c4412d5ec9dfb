"""Markdown: headings, what is none, and what belongs together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from embedfleet.chunking.chunker import Chunk
from embedfleet.chunking.strength import Strength

AtomFinder = Callable[..., list[tuple[str, Strength]]]
Splitter = Callable[..., list[Chunk]]


def headings_of(split: Splitter, text: str) -> dict[str, tuple[str, ...]]:
    """The heading path of each paragraph, by the paragraph's text; one small chunk each."""
    chunks = split(text, content_type="markdown", chunk_size=12, overlap=0)
    return {chunk.text: chunk.heading for chunk in chunks}


def test_the_heading_path_follows_the_levels(split: Splitter) -> None:
    text = "# A\naaaaaaaa\n\n## B\nbbbbbbbb\n\n### C\ncccccccc\n\n## D\ndddddddd\n\n# E\neeeeeeee"
    assert [chunk.heading for chunk in split(text, content_type="markdown", chunk_size=17, overlap=0)] == [
        ("A",),
        ("A", "B"),
        ("A", "B", "C"),
        ("A", "D"),
        ("E",),
    ]


@pytest.mark.parametrize(
    ("heading", "path"),
    [
        ("# Plain", ("Plain",)),
        ("   ### Indented ###", ("Indented",)),
        ("# C#", ("C#",)),
        ("Setext\n===", ("Setext",)),
        ("Setext\n---", ("Setext",)),
        ("#", ("",)),
    ],
)
def test_atx_and_setext_headings_are_headings(split: Splitter, heading: str, path: tuple[str, ...]) -> None:
    (chunk,) = split(f"{heading}\ntext", content_type="markdown")
    assert chunk.heading == path


@pytest.mark.parametrize(
    "text",
    [
        "#tag",
        "####### seven",
        "    # indented code",
        "\t# indented code",
        "  \t# indented code",
        "```\n# in a fence\n```",
        "~~~\n# in a fence\n```\n# still in it\n~~~",
        "---\ntitle: front matter\n---",
        "- item\n---",
        "two lines\nof text\n---",
        "word\n\n---",
        "\\# escaped",
    ],
)
def test_a_line_that_only_looks_like_a_heading_is_not_one(split: Splitter, text: str) -> None:
    assert {chunk.heading for chunk in split(f"{text}\n\ntext", content_type="markdown")} == {()}


def test_a_hash_line_is_no_heading_in_plain_text(split: Splitter) -> None:
    assert split("# A\ntext", content_type="text")[0].heading == ()


def test_headings_resume_after_a_fence_closes(split: Splitter) -> None:
    assert headings_of(split, "```\n# no\n```\n# Yes\ntext") == {
        "```\n# no\n```": (),
        "# Yes\ntext": ("Yes",),
    }


def test_an_opening_thematic_break_is_not_front_matter(split: Splitter) -> None:
    assert headings_of(split, "---\n\n# Title\ntext")["# Title\ntext"] == ("Title",)


def test_text_is_glued_to_its_heading_and_fence_lines_to_their_code(atoms: AtomFinder) -> None:
    found = atoms("# A\n\n## B\n\ntext\n\n```py\nx = 1\n\ny = 2\n```\nafter", "markdown")
    assert found == [
        ("# A", Strength.HEADING_1),
        ("## B", Strength.GLUED),
        ("text", Strength.GLUED),
        ("```py", Strength.PARAGRAPH),
        ("x = 1", Strength.GLUED),
        ("y = 2", Strength.LINE),
        ("```", Strength.GLUED),
        ("after", Strength.PARAGRAPH),
    ]


def test_no_chunk_ends_with_a_lonely_heading(split: Splitter) -> None:
    section = "## Heading\n\nSome words of text that fill the section. And then some more of them.\n\n"
    for size in range(60, 200, 7):
        for chunk in split(section * 8, content_type="markdown", chunk_size=size, overlap=0):
            assert not chunk.text.endswith("Heading")


def test_a_heading_begins_a_new_chunk_once_the_chunk_is_half_full(split: Splitter) -> None:
    text = "# A\n" + "a " * 30 + "\n\n# B\n" + "b " * 30
    chunks = split(text, content_type="markdown", chunk_size=100, overlap=0)
    assert [chunk.text[:3] for chunk in chunks] == ["# A", "# B"]


def test_a_heading_does_not_break_a_chunk_that_is_less_than_half_full(split: Splitter) -> None:
    text = "# A\na a\n\n# B\n" + "b b b. " * 30
    first = split(text, content_type="markdown", chunk_size=100, overlap=0)[0]
    assert "# B" in first.text
    assert len(first.text) > 50


def test_a_chunk_of_the_documents_first_heading_alone_is_under_it(split: Callable[..., list[Chunk]]) -> None:
    first, second = split("# Title\n\nText.", content_type="markdown", chunk_size=8, overlap=0)
    assert (first.text, first.heading) == ("# Title", ("Title",))
    assert (second.text, second.heading) == ("Text.", ("Title",))
