"""The corpus of the cascade's benchmark, its questions, and the vectors of both by a model.

The corpus is the standard library of Python: its sources, and the pages of its `help()`. Both are cut into
chunks of at most 1,000 characters, and at most as many tokens as MiniLM takes, whose limit is the lower one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics
from random import Random
from time import perf_counter, process_time

import numpy as np
from corpus import library_sources
from numpy.typing import NDArray

from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.cli.models_loading import loaded
from embedfleet.evaluation.known_items import Heading, draw
from embedfleet.evaluation.questions import Passage, Question
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.runner import ModelRunner
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.settings import ModelSettings, ModelsSettings, Settings
from embedfleet.tokenising import cut, tokenised

SEED = 18
TEXTS_PER_CALL = 1_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk: what is embedded, where it is, and the heading above it."""

    text: str
    passage: Passage
    heading: Heading


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors`: float32 (n, dim), of length 1. `tokens`: of all texts. `cpu_seconds`: tokenising too."""

    vectors: NDArray[np.float32]
    tokens: int
    cpu_seconds: float


def catalogue(dimensions: Sequence[int], **more: ModelSettings) -> Catalogue:
    """Return the bundled models, `static-D` for each number of dimensions, and those that are given."""
    shortened = {
        f"static-{number}": ModelSettings(
            backend="static", max_tokens=512, dimensions=number, matryoshka=True
        )
        for number in dimensions
    }
    return Catalogue(ModelsSettings(catalogue=shortened | more))


def pieces(count: int, info: ModelInfo) -> list[Piece]:
    """Return the first `count` chunks of the documents in an order drawn by chance."""
    found: list[Piece] = []
    for name, title, text, content_type in _documents():
        chunker = Chunker(
            load_tokenizer(info.tokenizer_file),
            ChunkingConfig(),
            max_tokens=info.max_tokens,
            content_type=content_type,
        )
        for some in chunker.split([text], title=title or None):
            for chunk in some:
                inner = chunk.heading[-1] if chunk.heading else ""
                found.append(
                    Piece(
                        chunk.context + chunk.text,
                        Passage(name, chunk.start, chunk.end),
                        Heading(name, title, inner, chunk.start, chunk.end),
                    )
                )
        if len(found) >= count:
            return found[:count]
    raise SystemExit(f"only {len(found):,} chunks of text here: ask for fewer")


def questions(of: Sequence[Piece], count: int) -> list[Question]:
    """Return up to `count` known items of these chunks."""
    return list(draw((piece.heading for piece in of), count, seed=SEED).questions)


async def embedded(model: str, models: Catalogue, texts: Sequence[str]) -> Embedded:
    """Embed the texts as documents."""
    async with loaded(model, models, Settings(), Metrics()) as runner:
        started, tokens, found = process_time(), 0, []
        for first in range(0, len(texts), TEXTS_PER_CALL):
            batch = cut(tokenised(texts[first : first + TEXTS_PER_CALL], runner.info), runner.info)
            tokens += int(batch.lengths.sum())
            found.append((await runner.embed(batch)).vectors)
        return Embedded(np.concatenate(found), tokens, process_time() - started)


async def asked(
    model: str, models: Catalogue, texts: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Embed the texts as queries, one after the other. Return their vectors and the seconds of each."""
    async with loaded(model, models, Settings(), Metrics()) as runner:
        await _one_query(runner, texts[0])  # what is loaded at first is not a question's
        vectors, seconds = [], []
        for text in texts:
            started = perf_counter()
            vectors.append(await _one_query(runner, text))
            seconds.append(perf_counter() - started)
    return np.concatenate(vectors), np.array(seconds)


async def _one_query(runner: ModelRunner, text: str) -> NDArray[np.float32]:
    batch = cut(tokenised([text], runner.info, role="query"), runner.info)
    return (await runner.embed(batch, interactive=True)).vectors


def _documents() -> Iterator[tuple[str, str, str, str]]:
    """(name, title, text, content type), in an order drawn by chance."""
    found = [(name, _title(text), text, "code") for name, text in library_sources(tools=True)]
    found += [(f"help/{name}", text.partition("\n")[0], text, "text") for name, text in topics.items()]
    Random(SEED).shuffle(found)
    yield from found


def _title(source: str) -> str:
    """Return the first line of the module's docstring; "" without one."""
    try:
        return (ast.get_docstring(ast.parse(source)) or "").strip().partition("\n")[0]
    except SyntaxError:
        return ""
