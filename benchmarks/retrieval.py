"""How well the right page is found, by how documents are cut and what is embedded before each chunk.

About 270 pages (manuals, books, Markdown, plain text, code, transcripts; 10,000 characters of each at most)
are cut, embedded with the bundled model and searched exactly. Each question has one page as its answer:
titles of sections, first sentences of others, and questions that were written by hand. A page counts once,
with its best chunk.

    python benchmarks/retrieval.py --pages DIRECTORY [--kinds manual,markdown] [--first NUMBER] [--short]

DIRECTORY takes the Debian packages that the pages come from: what is missing is downloaded with apt-get. The
reference is what is commonly done: windows of 254 tokens with 32 of overlap, of the plain text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import write_report
from retrieval_pages import Page, Question, fetch, made_questions, read_pages, written_questions

from embedfleet.chunking import chunker as chunker_module
from embedfleet.chunking.chunker import Chunker
from embedfleet.chunking.context import ContextMaker
from embedfleet.chunking.lines import Above
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.cli.models_loading import loaded, with_worker_threads
from embedfleet.inference.backend import ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.runner import ModelRunner
from embedfleet.metrics import Metrics
from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.settings import Settings

WRITTEN = Path(__file__).with_name("retrieval_questions.json")
REFERENCE = "windows of 254/32 tokens"
RESAMPLES = 2_000


class _TitleOnly(ContextMaker):
    """The context without headings and header rows."""

    def context(self, above: Above, text: str, *, room: int) -> str:
        return super().context(Above(), text, room=room)


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to cut. `before`: what is embedded before a chunk's text; `config` is None for the reference."""

    name: str
    config: ChunkingConfig | None
    before: str = "nothing"


def variants() -> list[Variant]:
    """Return the reference, and sizes with nothing, the title, or the whole context before a chunk."""
    made = [Variant(REFERENCE, None)]
    for before, config in (
        ("nothing", ChunkingConfig(chunk_size=254, overlap=32, unit="tokens")),
        ("context", ChunkingConfig(chunk_size=254, overlap=32, unit="tokens")),
        ("nothing", ChunkingConfig(chunk_size=1000, overlap=200)),
        ("context", ChunkingConfig(chunk_size=192, overlap=32, unit="tokens")),
        ("context", ChunkingConfig(chunk_size=1000, overlap=200)),
        ("context", ChunkingConfig(chunk_size=128, overlap=16, unit="tokens")),
        ("title", ChunkingConfig(chunk_size=254, overlap=32, unit="tokens")),
        ("nothing", ChunkingConfig(chunk_size=192, overlap=32, unit="tokens")),
        ("context", ChunkingConfig(chunk_size=254, overlap=0, unit="tokens")),
        ("context", ChunkingConfig(chunk_size=254, overlap=32, unit="tokens", method="sentences")),
        ("nothing", ChunkingConfig(chunk_size=128, overlap=16, unit="tokens")),
        ("nothing", ChunkingConfig(chunk_size=254, overlap=0, unit="tokens")),
    ):
        name = f"{config.chunk_size}/{config.overlap} {config.unit}, {config.method}, {before}"
        made.append(Variant(name, config.model_copy(update={"context": before != "nothing"}), before))
    return made


def cut(page: Page, variant: Variant, info: ModelInfo) -> Iterator[NDArray[np.uint32]]:
    """Yield the tokens of each chunk of the page."""
    tokenizer = load_tokenizer(info.tokenizer_file)
    if variant.config is None:
        ids = tokenizer.encode_batch([page.text])[0]
        for start in range(0, max(len(ids) - 32, 1), 254 - 32):
            yield ids[start : start + 254]
        return
    maker = _TitleOnly if variant.before == "title" else ContextMaker
    vars(chunker_module)["ContextMaker"] = maker
    chunker = Chunker(tokenizer, variant.config, max_tokens=info.max_tokens, content_type=page.content_type)
    for some in chunker.split([page.text], title=page.title):
        for chunk in some:
            yield chunk.token_ids


async def ranks_of(
    variant: Variant,
    pages: Sequence[Page],
    queries: NDArray[np.float32],
    answers: Sequence[Question],
    runner: ModelRunner,
) -> tuple[list[int], dict[str, Any]]:
    """Return the rank of each question's page, 0 if it is not among the first ten, and the chunks' number."""
    rows, owners = [], []
    for number, page in enumerate(pages):
        for ids in cut(page, variant, runner.info):
            rows.append(ids)
            owners.append(number)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    outcome = await runner.embed(TokenBatch(np.concatenate(rows), lengths))
    names = np.array([page.name for page in pages])[owners]
    scores = queries @ outcome.vectors.T
    ranks = [_rank(names[np.argsort(-row)], one.answers) for row, one in zip(scores, answers, strict=True)]
    return ranks, {"chunks": len(rows), "tokens": int(lengths.sum())}


def _rank(names: NDArray[np.str_], answers: tuple[str, ...]) -> int:
    seen = list(dict.fromkeys(names[:400].tolist()))[:10]
    return next((rank for rank, name in enumerate(seen, 1) if name in answers), 0)


def scores_of(ranks: Sequence[int]) -> dict[str, float]:
    """Return MRR@10, and the shares of questions whose page is the first hit, and among the first ten."""
    found = np.array(ranks)
    return {
        "mrr@10": round(float(np.mean(np.where(found > 0, 1 / np.maximum(found, 1), 0))), 4),
        "hit@1": round(float(np.mean(found == 1)), 4),
        "hit@10": round(float(np.mean(found > 0)), 4),
    }


def by_kind(ranks: Sequence[int], questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """Return the scores of each kind of question, and of all, where each kind has the same weight."""
    kinds = sorted({one.made_from for one in questions})
    of_kind = {
        kind: scores_of([rank for rank, one in zip(ranks, questions, strict=True) if one.made_from == kind])
        for kind in kinds
    }
    mean = {
        name: round(float(np.mean([one[name] for one in of_kind.values()])), 4) for name in of_kind[kinds[0]]
    }
    return {**of_kind, "all": mean}


def share_of_resamples_better(
    ranks: Sequence[int], than: Sequence[int], questions: Sequence[Question]
) -> float:
    """Return the share of resamples of the questions in which `ranks` has the higher MRR@10 than `than`.

    A paired bootstrap; the resamples keep the numbers of questions of each kind.
    """
    gains = np.array([(1 / a if a else 0) - (1 / b if b else 0) for a, b in zip(ranks, than, strict=True)])
    kinds = np.array([one.made_from for one in questions])
    random = np.random.default_rng(14)
    total = np.zeros(RESAMPLES)
    for kind in set(kinds.tolist()):
        of_kind = gains[kinds == kind]
        drawn = random.integers(0, len(of_kind), (RESAMPLES, len(of_kind)))
        total += of_kind[drawn].mean(axis=1)
    return round(float(np.mean(total > 0)), 3)


async def measure(
    pages: Sequence[Page], questions: Sequence[Question], wanted: Sequence[Variant], model: str
) -> dict[str, Any]:
    """Return the figures of all variants."""
    settings = with_worker_threads(Settings())
    figures: dict[str, Any] = {}
    all_ranks: dict[str, list[int]] = {}
    async with loaded(model, Catalogue(settings.models), settings, Metrics()) as runner:
        tokenizer = load_tokenizer(runner.info.tokenizer_file)
        ids, lengths = tokenizer.encode_batch([one.text for one in questions])
        queries = (await runner.embed(TokenBatch(ids, lengths, role="query"))).vectors
        for variant in wanted:
            ranks, size = await ranks_of(variant, pages, queries, questions, runner)
            all_ranks[variant.name] = ranks
            better = share_of_resamples_better(ranks, all_ranks[wanted[0].name], questions)
            figures[variant.name] = size | by_kind(ranks, questions) | {"better_than_first": better}
            print(variant.name, json.dumps(figures[variant.name]), flush=True)
    return figures | {"ranks": all_ranks}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--kinds", help="only pages of these kinds, with commas between them")
    parser.add_argument("--first", type=int, help="measure only so many variants")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    fetch(arguments.pages)
    pages = read_pages(arguments.pages)
    if arguments.kinds:
        pages = [page for page in pages if page.kind in arguments.kinds.split(",")]
    if arguments.short:
        pages = pages[::16]
    written = json.loads(WRITTEN.read_text(encoding="utf-8"))
    questions = [*made_questions(pages, 100), *written_questions(written, pages)]
    wanted = variants()[: arguments.first]
    figures = asyncio.run(measure(pages, questions, wanted, arguments.model))
    size = {"pages": len(pages), "chars": sum(len(page.text) for page in pages)}
    write_report("retrieval", size | {"questions": Counter(one.made_from for one in questions), **figures})


if __name__ == "__main__":
    main()
