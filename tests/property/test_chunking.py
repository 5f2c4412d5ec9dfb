"""What chunking promises, for any document, configuration and tokeniser."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import wordllama
from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet.chunking.atoms import CONTENT_TYPES, DEFAULT_BOUNDS, Atoms, Bounds, find_atoms
from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.lines import Above
from embedfleet.chunking.segments import segment_spans
from embedfleet.chunking.tokenizers import Tokenizer, load_tokenizer
from embedfleet.queue_schemas import ChunkingConfig, ChunkMethod, ChunkUnit
from embedfleet.visible_text import shows_nothing
from support.coverage import measure_coverage
from support.examples import examples

MINILM = Path(str(resources.files("embedfleet.data") / "minilm_tokenizer.json"))
LLAMA = Path(wordllama.__file__).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"
"""The first has concatenable token ids, the second has not."""

SMALL = Bounds(longest_atom=300, longest_gap=300, lookahead=4500, block=1)
"""Each segment is scanned by itself, and short documents take several scans."""

MAX_TOKENS = 60
MOST_TOKENS_OF_A_CHARACTER = 8

words = st.sampled_from(
    [
        *("the", "Widgets", "naïve", "e.g.", "Dr.", "J.", "3.14", "1.", "end.", "Why?", '"So."', "(no)"),
        *("straße", "ΣΊΣΥΦΟΣ", "中文。", "你好，世界！", "「引用。」次", "नमस्ते।", "مرحبا؟"),
        *("ไทยภาษา", "한국어", "#", "-", "```", "==="),
        *("[CLS]", "##ing", "e\u0301", "\u0301", "😀👩\u200d🔬", "\u200b", "\ufeff", "\x0c", "\x1c", "\x7f"),
        *("\ud800", "x" * 45, "z" * 700, "é" * 101, "中" * 70, "!" * 30, "。" * 12, "\u0301" * 40),
        "example.com/a?b=c",
    ]
)
odd_words = st.text(max_size=12)
gaps = st.sampled_from(
    [" "] * 8 + ["", "  ", "\t", "\n", "\n", "\r\n", "\r", "\n\n", "\xa0", "\u3000", "\n \n\n"]
)
runs_of_space = st.builds(
    lambda n, c: c * n, st.integers(100, 1100), st.sampled_from([" ", "\n", "\t", " \n"])
)
structures = st.sampled_from(
    [
        *("# Title", "## Sub #", "####### no", "#tag", "Setext\n======", "Under\n---", "---", "***"),
        *(
            "| a | b |\n|---|:-:|\n| 1 | 2 |",
            "a | b\n- | -\n3 | 4",
            "|---|",
            "| -- | x |",
            "| 5 | six. Seven |",
        ),
        *("> quote", "| a | b |", "- item", "* item", "12. step", "    code()"),
        *("```python\n# no heading\nx = 1\n```", "```", "~~~~", "~~~"),
        *("class A(B):", "    def m(self):", "@decorated", "def f():", "async def g(x):", "    return 1"),
    ]
)
lines = st.builds(lambda structure: f"\n{structure}\n", structures)
pieces = st.one_of(words, words, words, words, odd_words, gaps, gaps, lines, runs_of_space)


@st.composite
def documents(draw: st.DrawFn, *, most_pieces: int = 60) -> str:
    """Text of every kind of structure and script, mostly sensible, now and then not."""
    parts = draw(st.lists(st.tuples(pieces, gaps), max_size=most_pieces))
    front = draw(st.sampled_from(["", "", "", "---\ntitle: x\n---\n", "---\n", "\n\n  "]))
    return front + "".join(piece + gap for piece, gap in parts)


@st.composite
def configs(draw: st.DrawFn, *, smallest: int = 1) -> ChunkingConfig:
    unit = draw(st.sampled_from(ChunkUnit))
    if unit is ChunkUnit.TOKENS:  # room for the largest single character
        smallest = max(smallest, MOST_TOKENS_OF_A_CHARACTER)
    size = draw(st.integers(smallest, 400))
    overlap = draw(st.integers(0, size - 1))
    return ChunkingConfig(
        chunk_size=size,
        overlap=overlap,
        unit=unit,
        method=draw(st.sampled_from(ChunkMethod)),
        context=draw(st.booleans()),
    )


@st.composite
def segmentations(draw: st.DrawFn, text: str) -> list[str]:
    """The text cut at up to 20 arbitrary places, some segments empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=20)))
    return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]


content_types = st.sampled_from(CONTENT_TYPES)
titles = st.one_of(st.none(), words, st.text(alphabet="ab é>|.", max_size=200))


@pytest.fixture(scope="module", params=[MINILM, LLAMA], ids=["wordpiece", "metaspace-bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.param)


def split(
    tokenizer: Tokenizer,
    segments: list[str],
    config: ChunkingConfig,
    content_type: str,
    *,
    title: str | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> list[Chunk]:
    chunker = Chunker(tokenizer, config, max_tokens=MAX_TOKENS, content_type=content_type, bounds=bounds)
    chunks = [chunk for some in chunker.split(segments, title=title) for chunk in some]
    assert chunker.coverage == measure_coverage(segments, [(chunk.start, chunk.end) for chunk in chunks])
    return chunks


@given(documents(), configs(), content_types)
def test_every_character_that_shows_and_makes_a_token_is_in_some_chunk(
    tokenizer: Tokenizer, document: str, config: ChunkingConfig, content_type: str
) -> None:
    covered_to = 0
    for chunk in split(tokenizer, [document], config, content_type):
        assert_nothing_to_embed(tokenizer, document[covered_to : max(covered_to, chunk.start)])
        covered_to = max(covered_to, chunk.end)
    assert_nothing_to_embed(tokenizer, document[covered_to:])


def assert_nothing_to_embed(tokenizer: Tokenizer, dropped: str) -> None:
    """A text that is in no chunk shows nothing, or the tokeniser drops each of its parts too."""
    if not shows_nothing(dropped):
        assert int(tokenizer.encode_batch(dropped.split())[1].sum()) == 0, ascii(dropped)


@given(documents(), titles, configs(), content_types)
def test_no_chunk_is_over_a_limit_and_its_token_ids_are_those_of_its_context_and_text(
    tokenizer: Tokenizer, document: str, title: str | None, config: ChunkingConfig, content_type: str
) -> None:
    for chunk in split(tokenizer, [document], config, content_type, title=title):
        of_text = len(tokenizer.encode_batch([chunk.text])[0])
        assert (len(chunk.text) if config.unit is ChunkUnit.CHARS else of_text) <= config.chunk_size
        assert len(chunk.token_ids) <= MAX_TOKENS
        assert chunk.token_ids.tolist() == tokenizer.encode_batch([chunk.context + chunk.text])[0].tolist()
        assert chunk.context_tokens == len(chunk.token_ids) - of_text
        assert config.context or chunk.context == ""


@given(documents(), configs(), content_types)
def test_chunks_are_slices_of_the_document_in_order(
    tokenizer: Tokenizer, document: str, config: ChunkingConfig, content_type: str
) -> None:
    chunks = split(tokenizer, [document], config, content_type)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert chunk.text == document[chunk.start : chunk.end]
        assert not shows_nothing(chunk.text)
        assert len(chunk.token_ids) > 0
        assert not chunk.text[-1:].isspace() or chunk.text[-1] in "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
    for before, after in pairwise(chunks):
        assert before.start < after.start
        assert before.end < after.end


@given(documents(), configs(), content_types)
def test_consecutive_chunks_share_no_more_than_the_overlap(
    tokenizer: Tokenizer, document: str, config: ChunkingConfig, content_type: str
) -> None:
    for before, after in pairwise(split(tokenizer, [document], config, content_type)):
        shared = document[after.start : before.end] if after.start < before.end else ""
        if config.unit is ChunkUnit.CHARS:
            assert len(shared) <= config.overlap
        elif tokenizer.concatenable:
            assert len(tokenizer.encode_batch([shared])[0]) <= config.overlap


@settings(max_examples=examples(50))
@given(st.data(), documents(), titles, configs(smallest=50), content_types)
def test_where_segments_are_cut_changes_no_chunk(
    tokenizer: Tokenizer,
    data: st.DataObject,
    document: str,
    title: str | None,
    config: ChunkingConfig,
    content_type: str,
) -> None:
    document = document * (1 + 4 * SMALL.lookahead // (len(document) + 1))
    segments = data.draw(segmentations(document))
    whole = split(tokenizer, [document], config, content_type, title=title, bounds=SMALL)
    in_segments = split(tokenizer, segments, config, content_type, title=title, bounds=SMALL)
    assert [*map(_row, in_segments)] == [*map(_row, whole)]


def test_a_chunk_that_is_shortened_waits_for_the_text_that_its_new_end_depends_on() -> None:
    """A chunk that is shortened loses its overlap, and may then reach past the text that was read."""
    tokenizer = load_tokenizer(LLAMA)
    config = ChunkingConfig(chunk_size=40, overlap=39, unit=ChunkUnit.TOKENS, method=ChunkMethod.TOKENS)
    line = "ΣΊΣΥΦΟΣ " + "!" * 30 + " \U001070cb\U0006858b Setext ======" + " " * 257
    scanned = DEFAULT_BOUNDS.block + DEFAULT_BOUNDS.lookahead  # at least one scan ends before this
    document = line * (4 + scanned // len(line))
    whole = split(tokenizer, [document], config, "text")
    for cut in range(scanned, scanned + len(line), 25):
        in_two = split(tokenizer, [document[:cut], document[cut:]], config, "text")
        assert [*map(_row, in_two)] == [*map(_row, whole)], f"cut at {cut}"


def test_where_segments_are_cut_changes_no_heading_of_the_first_chunk() -> None:
    tokenizer = load_tokenizer(MINILM)
    document = "   \n# A title longer than half of its chunk, and so a chunk" * 400
    config = ChunkingConfig(chunk_size=60, overlap=0, unit=ChunkUnit.CHARS)
    whole = split(tokenizer, [document], config, "markdown", bounds=SMALL)
    for cut in range(0, 2 * SMALL.lookahead, 500):
        in_two = split(tokenizer, [document[:cut], document[cut:]], config, "markdown", bounds=SMALL)
        assert [*map(_row, in_two)] == [*map(_row, whole)], f"cut at {cut}"


@pytest.mark.parametrize("header", ["| Nr | Part |\n|---|---|", "Nr | Part\n---|---"], ids=["piped", "open"])
def test_where_segments_are_cut_changes_no_header_row_of_a_long_table(header: str) -> None:
    tokenizer = load_tokenizer(MINILM)
    rows = "".join(f"| {number} | valve with a long name |\n" for number in range(400))
    document = f"{header}\n{rows}\nText after the table.\n"
    config = ChunkingConfig(chunk_size=300, overlap=50)
    whole = split(tokenizer, [document], config, "markdown", bounds=SMALL)
    assert [bool(chunk.context) for chunk in whole[1:-1]] == [True] * (len(whole) - 2)
    in_one_scan = Bounds(SMALL.longest_atom, SMALL.longest_gap, 10**9, 10**9)
    at_once = split(tokenizer, [document], config, "markdown", bounds=in_one_scan)
    assert [*map(_row, whole)] == [*map(_row, at_once)]
    segments = [document[at : at + 777] for at in range(0, len(document), 777)]
    assert [*map(_row, split(tokenizer, segments, config, "markdown", bounds=SMALL))] == [*map(_row, whole)]


def _row(chunk: Chunk) -> tuple[object, ...]:
    ids = chunk.token_ids.tolist()
    return (chunk.index, chunk.start, chunk.end, chunk.heading, chunk.context, chunk.text, ids)


@settings(max_examples=examples(300))
@given(
    st.lists(st.tuples(documents(most_pieces=12), titles), min_size=1, max_size=4),
    configs(smallest=50),
    content_types,
)
def test_a_document_that_is_one_chunk_as_a_whole_is_the_same_chunk_when_it_is_split(
    tokenizer: Tokenizer, some: list[tuple[str, str | None]], config: ChunkingConfig, content_type: str
) -> None:
    chunker = Chunker(tokenizer, config, max_tokens=MAX_TOKENS, content_type=content_type)
    taken = chunker.whole([text for text, _ in some], [title for _, title in some])
    for (text, title), whole in zip(some, taken, strict=True):
        if whole is not None:
            (chunk,) = (chunk for block in chunker.split([text], title=title) for chunk in block)
            assert _row(chunk) == _row(whole)
            assert chunker.coverage.ratio == 1.0


def test_a_plain_short_text_is_taken_as_a_whole(tokenizer: Tokenizer) -> None:
    chunker = Chunker(tokenizer, ChunkingConfig(), max_tokens=MAX_TOKENS)
    texts = ["One line.\n\nAnother.\n", "  indented", "", " \n", "word " * 100, "word " * 300]
    taken = chunker.whole(texts, [None] * len(texts))
    assert [None if chunk is None else chunk.text for chunk in taken] == [
        "One line.\n\nAnother.",
        None,
        None,
        None,
        None,
        None,
    ]


@given(st.data(), documents(most_pieces=200), st.sampled_from(ChunkMethod), content_types)
def test_where_segments_are_cut_changes_no_atom(
    data: st.DataObject, document: str, method: ChunkMethod, content_type: str
) -> None:
    document = document * (1 + 4 * SMALL.lookahead // (len(document) + 1))
    segments = data.draw(segmentations(document))
    assert [*_atoms(segments, method, content_type)] == [*_atoms([document], method, content_type, once=True)]


def _atoms(
    segments: list[str], method: ChunkMethod, content_type: str, *, once: bool = False
) -> Iterator[tuple[object, ...]]:
    """(start, end, strength, what stands above) of each atom; in a single scan if `once`."""
    bounds = Bounds(SMALL.longest_atom, SMALL.longest_gap, 10**9, 10**9) if once else SMALL
    here = Above()
    for run in find_atoms(segments, content_type=content_type, method=method, bounds=bounds):
        assert run.above == sorted(run.above, key=lambda item: item[0])
        coming = [(offset + run.offset, above) for offset, above in run.above]
        for start, end, strength in _rows(run):
            while coming and coming[0][0] <= start:
                here = coming.pop(0)[1]
            yield start, end, strength, here
        here = coming[-1][1] if coming else here


def _rows(run: Atoms) -> list[tuple[int, int, int]]:
    starts, ends = (run.starts + run.offset).tolist(), (run.ends + run.offset).tolist()
    return list(zip(starts, ends, run.strengths.tolist(), strict=True))


@given(documents(), st.integers(1, 200))
def test_segment_spans_cover_the_text_exactly_and_keep_pairs_together(text: str, target: int) -> None:
    spans = list(segment_spans(text, target_chars=target))
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(0 < b - a <= target for a, b in spans)
    for _, cut in spans[:-1]:
        assert target == 1 or not (text[cut - 1] == "\r" and text[cut] == "\n")


@given(st.lists(st.one_of(words, odd_words), max_size=30))
def test_the_fast_tokeniser_gives_the_reference_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    reference = tokenizer._reference  # type: ignore[attr-defined]
    ids, lengths = tokenizer.encode_batch(texts)
    reference_ids, reference_lengths = reference.encode_batch(texts)
    assert lengths.tolist() == reference_lengths.tolist()
    assert np.array_equal(ids, reference_ids)
