"""Figure S1: structure-aware chunking to an exact token limit, beside its peers, one thread.

Every splitter gets the same text, the same (MiniLM) tokeniser and the same limit in one process, in
interleaved rounds; the first round warms up and does not count. embedfleet's time includes the token
ids of every chunk, the peers' does not. Afterwards each result is checked: tokens of the largest chunk,
share of the text's visible characters that the chunks hold.

    python benchmarks/chunking.py [--corpus DIR_OF_HTML_FILES]

Without `--corpus` the text is the standard library's own sources, as far as 2.1 MB of them.
"""

from __future__ import annotations

import os

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import gc
import html.parser
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import tokenizers
import tokie
from corpus import library_sources
from report import write_report

from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.segments import segment_spans
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.queue_schemas import ChunkingConfig, ChunkUnit

CORPUS_CHARS = 2_100_000
MAX_TOKENS = 256
TOKENIZER_FILE = Path(str(resources.files("embedfleet.data") / "minilm_tokenizer.json"))

Splitter = Callable[[str], list[str]]


class _HtmlText(html.parser.HTMLParser):
    """The text of a page: blocks on their own lines, headings marked as in Markdown."""

    _BLOCKS = frozenset("p div pre table dl dt dd ul ol li tr section".split())  # noqa: SIM905
    _SILENT = frozenset({"script", "style"})

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self._SILENT
        if re.fullmatch("h[1-6]", tag):
            self.parts.append(f"\n\n{'#' * int(tag[1])} ")
        elif tag in self._BLOCKS:
            self.parts.append("\n" if tag in ("li", "tr") else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self._SILENT
        if tag in self._BLOCKS or re.fullmatch("h[1-6]", tag):
            self.parts.append("\n" if tag in ("li", "tr") else "\n\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def read_html_corpus(directory: Path) -> str:
    return _first_chars(_html_text(path) for path in sorted(directory.rglob("*.html")))


def _html_text(path: Path) -> str:
    parser = _HtmlText()
    parser.feed(path.read_text(encoding="utf-8", errors="replace"))
    text = re.sub(r"[ \t]+\n", "\n", "".join(parser.parts))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _first_chars(texts: Iterable[str]) -> str:
    parts: list[str] = []
    size = 0
    for text in texts:
        parts.append(text)
        size += len(text) + 2
        if size >= CORPUS_CHARS:
            break
    return "\n\n".join(parts)[:CORPUS_CHARS]


def our_splitter(content_type: str) -> Splitter:
    config = ChunkingConfig(chunk_size=MAX_TOKENS, overlap=0, unit=ChunkUnit.TOKENS)
    chunker = Chunker(
        load_tokenizer(TOKENIZER_FILE), config, max_tokens=MAX_TOKENS, content_type=content_type
    )

    def split(text: str) -> list[str]:
        segments = [text[start:end] for start, end in segment_spans(text)]
        return [chunk.text for chunks in chunker.split(segments) for chunk in chunks]

    return split


def peers(reference: tokenizers.Tokenizer) -> dict[str, Splitter]:
    import chonkie
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from llama_index.core.node_parser import SentenceSplitter
    from semantic_text_splitter import TextSplitter

    def token_ids(text: str) -> list[int]:
        ids: list[int] = reference.encode(text, add_special_tokens=False).ids
        return ids

    llama_index = SentenceSplitter(chunk_size=MAX_TOKENS, chunk_overlap=0, tokenizer=token_ids)
    langchain = RecursiveCharacterTextSplitter(
        chunk_size=MAX_TOKENS, chunk_overlap=0, length_function=lambda text: len(token_ids(text))
    )
    semantic = TextSplitter.from_huggingface_tokenizer(reference, MAX_TOKENS)
    recursive = chonkie.RecursiveChunker(tokenizer=reference, chunk_size=MAX_TOKENS)
    return {
        "llama_index SentenceSplitter": llama_index.split_text,
        "semantic-text-splitter": semantic.chunks,
        "langchain RecursiveCharacterTextSplitter": langchain.split_text,
        "chonkie RecursiveChunker": lambda text: [chunk.text for chunk in recursive.chunk(text)],
    }


def bare_tokenisers(reference: tokenizers.Tokenizer) -> dict[str, Splitter]:
    """Tokenising the text line by line and nothing else: what any of this cannot be faster than."""
    fast: Any = tokie.Tokenizer.from_json(str(TOKENIZER_FILE))

    def by_reference(text: str) -> list[str]:
        reference.encode_batch_fast(text.splitlines(), add_special_tokens=False)
        return []

    def by_tokie(text: str) -> list[str]:
        fast.encode_batch_flat(text.splitlines(), add_special_tokens=False)
        return []

    return {"bare tokenizers": by_reference, "bare tokie": by_tokie}


def measure(splitters: dict[str, Splitter], text: str, rounds: int) -> dict[str, dict[str, Any]]:
    seconds: dict[str, list[float]] = {name: [] for name in splitters}
    results: dict[str, list[str]] = {}
    for round_number in range(rounds + 1):
        for name, split in splitters.items():
            gc.collect()
            started = time.perf_counter()
            results[name] = split(text)
            if round_number > 0:
                seconds[name].append(time.perf_counter() - started)
    megabytes = len(text.encode()) / 1e6
    return {
        name: {
            "mb_per_s_median": round(megabytes / statistics.median(seconds[name]), 3),
            "mb_per_s_slowest": round(megabytes / max(seconds[name]), 3),
            "mb_per_s_fastest": round(megabytes / min(seconds[name]), 3),
            **_outcome(results[name], text),
        }
        for name in splitters
    }


def _outcome(chunks: list[str], text: str) -> dict[str, Any]:
    """What the chunks are, counted apart from any splitter; nothing for a bare tokeniser."""
    if not chunks:
        return {}
    _, lengths = load_tokenizer(TOKENIZER_FILE).encode_batch(chunks)
    lost = _visible(text) - _visible("".join(chunks))
    return {
        "chunks": len(chunks),
        "tokens_mean": round(float(lengths.mean()), 1),
        "tokens_max": int(lengths.max()),
        "chunks_over_limit": int((lengths > MAX_TOKENS).sum()),
        "coverage": round(1 - lost.total() / _visible(text).total(), 6),
    }


def _visible(text: str) -> Counter[str]:
    return Counter("".join(text.split()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, help="a directory of HTML files")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    text = (
        read_html_corpus(arguments.corpus)
        if arguments.corpus
        else _first_chars(text for _, text in library_sources())
    )
    reference = tokenizers.Tokenizer.from_file(str(TOKENIZER_FILE))
    reference.no_truncation()
    reference.no_padding()
    splitters = {
        "embedfleet, Markdown": our_splitter("markdown"),
        "embedfleet, text": our_splitter("text"),
        **peers(reference),
        **bare_tokenisers(reference),
    }
    measured = measure(splitters, text, arguments.rounds)
    ours = measured["embedfleet, Markdown"]["mb_per_s_median"]
    write_report(
        "chunking",
        {
            "corpus": "HTML pages" if arguments.corpus else "standard library sources",
            "corpus_mb": round(len(text.encode()) / 1e6, 3),
            "limit_tokens": MAX_TOKENS,
            "threads": 1,
            "rounds": arguments.rounds,
            "splitters": measured,
            "times_as_fast_as": {
                name: round(ours / figures["mb_per_s_median"], 2)
                for name, figures in measured.items()
                if not name.startswith("embedfleet")
            },
        },
    )


if __name__ == "__main__":
    main()
