"""A chunk never begins or ends inside of what a reader takes for one character."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import regex
import wordllama
from hypothesis import given, settings
from hypothesis import strategies as st

from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.tokenizers import Tokenizer, load_tokenizer
from embedfleet.queue_schemas import ChunkingConfig, ChunkMethod, ChunkUnit
from support.examples import examples

MINILM = Path(str(resources.files("embedfleet.data") / "minilm_tokenizer.json"))
LLAMA = Path(wordllama.__file__).parent / "tokenizers" / "l2_supercat_tokenizer_config.json"

MAX_TOKENS = 100
LONGEST_CLUSTER_CHARS = 16
MOST_TOKENS_OF_A_CLUSTER = 64
"""Four bytes for each of its characters, in a tokeniser that spells what it does not know."""

CLUSTERS = [
    *("🇩🇪", "🇫🇷", "🇯🇵", "👍🏽", "🤚🏿", "👨\u200d👩\u200d👧\u200d👦", "👩🏾\u200d🚀", "❤\ufe0f\u200d🔥"),
    *("1\ufe0f\u20e3", "#\ufe0f\u20e3", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"),
    *("\u1112\u1161\u11ab", "\u1100\u1161", "가\u11ab", "e\u0301", "a\u0323\u0302", "\uff76\uff9e"),
    *("क्षि", "न्त्र", "க்ஷ", "স্ত্রী", "ไม้", "กำ", "မြန်", "ខ្មែ", "א\u05b7", "ب\u0650ّ", "葛\U000e0100"),
    *("中", "한", "あ", "x", "ß", "7", "。", "！\ufe0f", "*\ufe0f\u20e3", " \u0301", "。\u0301", "\u0600١"),
]
gaps = st.sampled_from([""] * 12 + [" ", "\n", "\r\n", "。", "! "])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Clusters with hardly any blank between them, one of them in long runs."""
    run = draw(st.sampled_from(CLUSTERS)) * draw(st.integers(0, 60))
    parts = draw(st.lists(st.tuples(st.sampled_from(CLUSTERS), gaps), max_size=60))
    return draw(st.sampled_from(["", "x", "word "])) + run + "".join(map("".join, parts)) + run


@pytest.fixture(scope="module", params=[MINILM, LLAMA], ids=["wordpiece", "metaspace-bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.param)


@settings(max_examples=examples(60))
@given(st.data(), documents(), st.sampled_from(ChunkMethod), st.sampled_from(ChunkUnit))
def test_no_chunk_cuts_a_cluster_that_fits_into_a_chunk(
    tokenizer: Tokenizer, data: st.DataObject, document: str, method: ChunkMethod, unit: ChunkUnit
) -> None:
    smallest = LONGEST_CLUSTER_CHARS if unit is ChunkUnit.CHARS else MOST_TOKENS_OF_A_CLUSTER
    size = data.draw(st.integers(smallest, 100))
    overlap = data.draw(st.integers(0, size - 1))
    config = ChunkingConfig(chunk_size=size, overlap=overlap, unit=unit, method=method)
    chunker = Chunker(tokenizer, config, max_tokens=MAX_TOKENS)
    borders = {0, *(cluster.end() for cluster in regex.finditer(r"\X", document))}
    for chunk in (chunk for some in chunker.split([document]) for chunk in some):
        assert {chunk.start, chunk.end} <= borders, ascii(chunk.text)


def test_a_cluster_that_is_longer_than_a_chunk_is_cut_between_its_characters() -> None:
    document = "Z" + "\u0301" * 250 + "🇩🇪" * 20
    chunker = Chunker(
        load_tokenizer(MINILM), ChunkingConfig(chunk_size=100, overlap=0), max_tokens=MAX_TOKENS
    )
    chunks = [chunk for some in chunker.split([document]) for chunk in some]
    assert len(chunks[0].text) == 100
    assert [chunk.start for chunk in chunks if chunk.start > 251 and (chunk.start - 251) % 2] == []
