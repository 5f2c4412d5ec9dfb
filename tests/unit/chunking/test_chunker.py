"""Documents to chunks: the limits in each unit, hard cases, streaming."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.tokenizers import Tokenizer
from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import ChunkingConfig, ChunkUnit

Splitter = Callable[..., list[Chunk]]

PROSE = "The quick brown fox jumps over the lazy dog. Then it sleeps. " * 200


def test_an_empty_or_blank_document_has_no_chunks(split: Splitter) -> None:
    assert split("") == []
    assert split(" \n\t\r\n\x0c ") == []


def test_a_short_document_is_one_chunk_without_the_white_space_around_it(split: Splitter) -> None:
    (chunk,) = split("\n\n  Hello, world.  \n")
    assert (chunk.text, chunk.start, chunk.end) == ("  Hello, world.", 2, 17)


def test_a_chunk_in_characters_is_cut_further_where_the_model_takes_fewer_tokens(split: Splitter) -> None:
    chunks = split(PROSE, chunk_size=5000, overlap=0, max_tokens=20)
    assert {len(chunk.token_ids) <= 20 for chunk in chunks} == {True}
    assert max(len(chunk.token_ids) for chunk in chunks) > 10


def test_a_chunk_in_tokens_never_exceeds_the_models_limit(split: Splitter) -> None:
    chunks = split(PROSE, chunk_size=500, overlap=0, unit=ChunkUnit.TOKENS, max_tokens=50)
    assert max(len(chunk.token_ids) for chunk in chunks) <= 50


def test_overlap_keeps_its_share_of_a_chunk_that_the_model_makes_smaller(split: Splitter) -> None:
    asked = {"chunk_size": 1000, "overlap": 200}
    chunks = split("wide " * 1000, **asked, max_tokens=50)
    assert 1000 / 50 < len(chunks) <= 1.3 * 1000 / 50
    assert all(a.end > b.start for a, b in pairwise(chunks))


def test_a_word_longer_than_the_limit_is_cut_and_stays_whole_in_sum(split: Splitter) -> None:
    word = "supercalifragilistic" * 4
    chunks = split(f"see {word} there", chunk_size=30, overlap=10)
    assert "".join(chunk.text for chunk in chunks).replace(" ", "") == f"see{word}there"
    assert all(len(chunk.text) <= 30 for chunk in chunks)


def test_text_that_makes_no_tokens_is_bounded_in_characters(split: Splitter) -> None:
    text = ("word" + "\u200b" * 20_000) * 5
    chunks = split(text, chunk_size=100, overlap=0, unit=ChunkUnit.TOKENS)
    assert max(len(chunk.text) for chunk in chunks) == 6400


def test_a_character_larger_than_the_models_limit_is_refused_by_place(split: Splitter) -> None:
    with pytest.raises(InvalidRequest, match=r"character 4 .* is 3 tokens but the model takes 2"):
        split("abc \uac01", max_tokens=2)


def test_an_unknown_content_type_is_refused_with_the_known_ones(split: Splitter) -> None:
    with pytest.raises(InvalidRequest, match="text, markdown, code"):
        split("text", content_type="html")


def test_a_limit_below_one_token_is_refused(split: Splitter) -> None:
    with pytest.raises(InvalidRequest, match="max_tokens"):
        split("text", max_tokens=0)


def test_chunks_come_while_the_document_is_still_being_read(tokenizer: Tokenizer) -> None:
    read = 0

    def segments() -> Iterator[str]:
        nonlocal read
        for _ in range(10):
            read += 1
            yield PROSE * 10

    chunker = Chunker(tokenizer, ChunkingConfig(), max_tokens=254)
    behind = []
    for chunks in chunker.split(segments()):
        behind.append(read * len(PROSE) * 10 - chunks[-1].end)
    assert read == 10
    assert max(behind) < 25_000  # what is not yet in a chunk: the lookahead and the chunk at hand


def test_the_coverage_is_of_the_document_split_last(tokenizer: Tokenizer) -> None:
    chunker = Chunker(tokenizer, ChunkingConfig(), max_tokens=254)
    for text in (PROSE, "two words", ""):
        list(chunker.split([text]))
        assert chunker.coverage.total_chars == len(text)
        assert chunker.coverage.ratio == 1.0


class CountingTokenizer:
    """A token a byte, though it says of itself that its ids cannot be put together."""

    concatenable = False
    unknown_id = None

    def __init__(self) -> None:
        self.tokenised_chars = 0

    def unknown_spans(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError

    def reads_otherwise(self, text: str) -> bool:
        return False

    def encode_batch(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        self.tokenised_chars += sum(map(len, texts))
        rows = [list(text.encode()) for text in texts]
        ids = np.array([token for row in rows for token in row], dtype=np.uint32)
        return ids, np.array([len(row) for row in rows], dtype=np.int64)


def test_text_is_tokenised_once_until_a_chunk_in_characters_has_too_many_tokens() -> None:
    plain, rich = PROSE, "да. нет. " * 400  # two bytes a letter
    tokenizer = CountingTokenizer()
    chunker = Chunker(tokenizer, ChunkingConfig(chunk_size=100, overlap=0), max_tokens=120)
    in_plain = [chunk for some in chunker.split([plain]) for chunk in some]
    assert tokenizer.tokenised_chars == sum(len(chunk.text) for chunk in in_plain)
    in_both = [chunk for some in chunker.split([plain, rich]) for chunk in some]
    assert [chunk.text for chunk in in_both[: len(in_plain) - 1]] == [chunk.text for chunk in in_plain[:-1]]
    assert 100 < max(len(chunk.token_ids) for chunk in in_both[len(in_plain) :]) <= 120
