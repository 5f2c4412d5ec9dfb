"""What is embedded before the text of a chunk: the title, the headings above, the header row of a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.tokenizers import Tokenizer
from embedfleet.queue_schemas import ChunkingConfig

Splitter = Callable[..., list[Chunk]]

HEADER = "| Nr | Part | Burst pressure |"
ROWS = "".join(f"| {number} | valve-{number:03} | {number * 7 % 100} bar |\n" for number in range(60))
TABLE = f"{HEADER}\n|---|---|---|\n{ROWS}"


def contexts(split: Splitter, text: str, **options: object) -> list[str]:
    return [chunk.context for chunk in split(text, **{"content_type": "markdown", **options})]


def lines_of(chunks: list[Chunk]) -> dict[str, str]:
    """The context of the chunk in which each line of the document begins."""
    return {line: chunk.context for chunk in chunks for line in chunk.text.splitlines()}


class TestHeadings:
    def test_a_chunk_has_the_title_and_the_headings_above_it_before_its_text(self, split: Splitter) -> None:
        text = "# Pumps\n\n## Seals\n\n" + "They leak now and then. " * 40
        first, *rest = contexts(split, text, chunk_size=300, overlap=0, title="Plant manual")
        assert first == "Plant manual\n\n"  # the headings are in its text
        assert rest != []
        assert set(rest) == {"Plant manual > Pumps > Seals\n\n"}

    def test_a_heading_in_the_text_of_the_chunk_is_not_repeated(self, split: Splitter) -> None:
        text = "# A\n\n## B\n\nbbb bbb bbb\n\n## C\n\nccc ccc ccc\n"
        assert contexts(split, text, chunk_size=22, overlap=0) == ["", "A\n\n"]

    def test_a_chunk_whose_overlap_is_of_another_section_has_only_what_is_above_both(
        self, split: Splitter
    ) -> None:
        text = "# A\n\n## B\n\n" + "b one. b two. b three. " * 3 + "\n\n## C\n\n" + "c one. c two. " * 9
        chunks = split(text, content_type="markdown", chunk_size=60, overlap=20)
        (across,) = (chunk for chunk in chunks if "## C" in chunk.text and chunk.text[0] != "#")
        assert (across.heading, across.context) == (("A", "C"), "A\n\n")

    def test_a_document_without_title_is_called_as_its_first_heading(self, split: Splitter) -> None:
        text = "# git-log manual\n\nShort.\n\n# OPTIONS\n\n" + "An option of it. " * 40
        assert contexts(split, text, chunk_size=300, overlap=0)[-1] == "git-log manual > OPTIONS\n\n"

    def test_text_before_the_first_heading_leaves_the_document_without_title(self, split: Splitter) -> None:
        text = "A preface.\n\n# One\n\n" + "Said. " * 80 + "\n\n# Two\n\n" + "Said too. " * 80
        assert contexts(split, text, chunk_size=300, overlap=0)[-1] == "Two\n\n"

    @pytest.mark.parametrize(
        ("title", "expected"),
        [
            ("Valves", "Valves\n\n"),
            ("valves", "Valves\n\n"),
            ("Valves - Plant documentation", "Valves - Plant documentation\n\n"),
            ("Plant  \n manual", "Plant manual > Valves\n\n"),
            (None, "Valves\n\n"),
            ("", "Valves\n\n"),
            ("Val", "Val > Valves\n\n"),
            ("***", "Valves\n\n"),
        ],
    )
    def test_what_title_and_headings_both_say_is_said_once(
        self, split: Splitter, title: str | None, expected: str
    ) -> None:
        text = "# Valves\n\n" + "They close. " * 60
        assert contexts(split, text, chunk_size=300, overlap=0, title=title)[-1] == expected

    def test_source_code_has_the_enclosing_definitions(self, split: Splitter) -> None:
        text = "class Pump:\n    def stop(self):\n" + "".join(f"        step({i})\n" for i in range(60))
        assert contexts(split, text, content_type="code", chunk_size=300, overlap=0)[-1] == "Pump > stop\n\n"

    def test_plain_text_has_the_title_except_where_the_text_begins_with_it(self, split: Splitter) -> None:
        text = "On Pumps\n\n" + "They move water. " * 60
        first, *rest = contexts(split, text, content_type="text", chunk_size=300, overlap=0, title="On Pumps")
        assert first == ""
        assert set(rest) == {"On Pumps\n\n"}

    def test_text_that_only_mentions_the_title_has_it_too(self, split: Splitter) -> None:
        text = "We write of pumps. " * 60
        assert set(contexts(split, text, chunk_size=300, overlap=0, title="Pumps")) == {"Pumps\n\n"}

    def test_without_the_setting_no_chunk_has_a_context(self, split: Splitter) -> None:
        text = "# Pumps\n\n" + "They leak. " * 60
        assert set(contexts(split, text, chunk_size=300, overlap=0, title="Plant", context=False)) == {""}


FULL: dict[str, Any] = {"chunk_size": 60, "overlap": 8, "unit": "tokens", "max_tokens": 60}


class TestRoom:
    def test_text_and_context_together_are_within_the_limit_of_the_model(
        self, split: Splitter, tokenizer: Tokenizer
    ) -> None:
        text = "# Pumps of the old plant\n\n" + "They leak now and then. " * 200
        for chunk in split(text, content_type="markdown", **FULL):
            ids, _ = tokenizer.encode_batch([chunk.context + chunk.text])
            assert chunk.token_ids.tolist() == ids.tolist()
            assert len(ids) <= 60
            assert chunk.context_tokens == len(tokenizer.encode_batch([chunk.context])[0])

    def test_a_model_with_room_for_both_loses_no_text_to_the_context(self, split: Splitter) -> None:
        text = "They leak now and then. " * 200
        spans = [
            [(chunk.start, chunk.end) for chunk in split(text, **{**FULL, "max_tokens": 512}, title=title)]
            for title in (None, "Pumps of the old plant")
        ]
        assert spans[0] == spans[1]

    def test_the_room_that_was_left_for_a_context_is_enough_for_all_of_it(self, split: Splitter) -> None:
        """The chunks are full, so that title and header row have just the room that was left for them."""
        for size in range(40, 60):
            chunks = split(
                f"# Valves of the old plant\n\n{TABLE}",
                content_type="markdown",
                **{**FULL, "chunk_size": size, "max_tokens": size},
            )
            assert {chunk.context for chunk in chunks[1:]} == {f"Valves of the old plant\n\n{HEADER}\n"}

    def test_a_long_path_loses_its_outermost_headings_but_not_title_and_innermost(
        self, split: Splitter
    ) -> None:
        headings = "".join(
            f"{'#' * level} A rather long heading, number {level}\n\n" for level in range(1, 7)
        )
        text = headings + "They leak now and then. " * 60
        last = contexts(split, text, title="The plant", **FULL)[-1]
        assert last.startswith("The plant > ")
        assert last.endswith("heading, number 6\n\n")
        assert "number 1" not in last

    def test_an_endless_title_is_cut_after_a_word_and_leaves_half_of_the_room(
        self, split: Splitter, tokenizer: Tokenizer
    ) -> None:
        chunks = split("They leak. " * 200, max_tokens=60, title="pump " * 500)
        for chunk in chunks:
            assert 0 < chunk.context_tokens <= 30
            assert set(chunk.context.split()) == {"pump"}
        assert max(len(chunk.token_ids) for chunk in chunks) > 50

    def test_a_character_that_fills_the_model_is_embedded_without_context(self, split: Splitter) -> None:
        (chunk,) = split("\uac01", max_tokens=3, title="Korean")
        assert (chunk.context, len(chunk.token_ids)) == ("", 3)


class TestTables:
    def test_every_chunk_of_a_table_says_what_its_columns_are(self, split: Splitter) -> None:
        chunks = split(f"# Valves\n\n{TABLE}", content_type="markdown", chunk_size=400, overlap=80)
        assert len(chunks) > 4
        for chunk in chunks:
            assert "Burst pressure" in chunk.context + chunk.text
            assert chunk.text.startswith(("# Valves", "| "))
        assert {chunk.context for chunk in chunks[1:]} == {f"Valves\n\n{HEADER}\n"}

    @pytest.mark.parametrize(
        "table",
        [
            TABLE,
            TABLE.replace("|---|---|---|", "| :--- | :-: | ---: |"),
            "".join(f"{line.strip('| ')}\n" for line in TABLE.splitlines()),
            "".join(f"  {line}\n" for line in TABLE.splitlines()),
            TABLE.replace("\n", "\r\n"),
            TABLE.replace("| Nr |", "|    Nr     |"),
        ],
        ids=["plain", "aligned", "open", "indented", "crlf", "padded"],
    )
    def test_tables_of_every_form(self, split: Splitter, table: str) -> None:
        after = "\n\nText that comes after the table. " * 8
        contexts_of = lines_of(split(table + after, content_type="markdown", chunk_size=200, overlap=0))
        rows = [context for line, context in contexts_of.items() if re.search("valve-0(?!00)", line)]
        assert len(rows) == 59
        assert sum("Burst pressure" in context for context in rows) >= 50  # all but those of the first chunk
        assert contexts_of["Text that comes after the table."] == ""

    @pytest.mark.parametrize(
        "text",
        [
            f"```\n{TABLE}```\n",
            ROWS,
            f"{HEADER}\n\n|---|---|---|\n{ROWS}",
            f"{HEADER}\n| a | b | c |\n{ROWS}",
        ],
        ids=["in a fence", "no header", "blank line below the header", "no delimiter row"],
    )
    def test_what_is_no_table_has_no_header_row(self, split: Splitter, text: str) -> None:
        assert set(contexts(split, text, chunk_size=300, overlap=0)) == {""}

    def test_each_table_has_its_own_header(self, split: Splitter) -> None:
        other = TABLE.replace("Burst pressure", "Flow").replace("valve", "pump")
        contexts_of = lines_of(
            split(f"{TABLE}\nBetween them.\n\n{other}", content_type="markdown", chunk_size=200, overlap=0)
        )
        assert "Burst pressure" in contexts_of["| 59 | valve-059 | 13 bar |"]
        assert "Flow" in contexts_of["| 59 | pump-059 | 13 bar |"]
        assert "Burst pressure" not in contexts_of["| 59 | pump-059 | 13 bar |"]

    def test_a_heading_or_a_fence_right_below_ends_the_table(self, split: Splitter) -> None:
        for end in ("# Next\n", "```\ncode\n```\n"):
            chunks = split(TABLE + end + "Said. " * 90, content_type="markdown", chunk_size=200, overlap=0)
            assert "Burst pressure" not in chunks[-1].context

    def test_the_header_row_is_never_cut_from_the_line_below_it(self, split: Splitter) -> None:
        for before in range(40):
            for chunk in split(
                "word " * before + "\n\n" + TABLE, content_type="markdown", chunk_size=90, overlap=0
            ):
                assert not chunk.text.startswith("|---")
                assert not chunk.text.endswith((HEADER, "|---|"))

    def test_a_wide_header_row_leaves_room_for_the_rows(self, split: Splitter) -> None:
        columns = [f"column number {number}" for number in range(40)]
        rows = f"| {' | '.join('1' * 40)} |\n" * 20
        text = f"| {' | '.join(columns)} |\n|{'---|' * 40}\n{rows}"
        for chunk in split(text, content_type="markdown", chunk_size=254, overlap=0, unit="tokens")[2:]:
            assert chunk.context.startswith("| column number 0 | column number 1 |")
            assert chunk.context_tokens <= 254 // 4


def test_a_whole_document_has_its_title_as_context(tokenizer: Tokenizer) -> None:
    chunker = Chunker(tokenizer, ChunkingConfig(), max_tokens=254)
    taken = chunker.whole(["They leak.", "They leak.", "Pumps\n\nThey leak."], ["Pumps", None, "Pumps"])
    assert [chunk and chunk.context for chunk in taken] == ["Pumps\n\n", "", ""]
