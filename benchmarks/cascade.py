"""Whether two-stage search pays: cheap vectors first, and better ones for a shortlist of what these find.

Over one corpus (the standard library of Python) and the same questions, asked in turn:

1. the full vectors of the static model through the index of each store, as searches do;
2. its first dimensions (`dimensions` of the settings) first, then its full vectors of the shortlist, by id;
3. the static model first and MiniLM for the shortlist: with MiniLM's vectors in the store, or made for each
   question. MiniLM is slow, so this is of `--embedded` chunks only.

Each kind of vectors is in a store of its own, so that its bytes and memory are known. `in memory` is a matrix
that is compared row by row: what a search takes without a store. LanceDB is also filled with `--times` copies
of the static vectors, with noise. Questions are titles and headings (known items). `recall_at_10` is of the
ten rows that are nearest by the full vectors. SQL is in no figure: every variant asks it alike. Of a time,
three numbers are the median of the rounds, the least and the most; of a share, the share and its interval.

    python benchmarks/cascade.py [--chunks 20000] [--rounds 3] [--price 0.02] [--short]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Protocol

import numpy as np
import psutil
from cascade_corpus import Embedded, Piece, asked, catalogue, embedded, pieces, questions
from numpy.typing import NDArray
from process_tree import cpu_seconds_of_children
from report import write_report

from embedfleet.cli.models_loading import loaded
from embedfleet.evaluation.intervals import paired_interval, wilson
from embedfleet.evaluation.questions import Question
from embedfleet.evaluation.rankings import hit_at
from embedfleet.inference.catalogue import Catalogue
from embedfleet.metrics import Metrics
from embedfleet.settings import Settings, load_settings
from embedfleet.tokenising import cut, tokenised
from embedfleet.vectors.port import CollectionKey, Hit, StoreDebt, TenantSpace, VectorRows, VectorStore
from embedfleet.vectors.registry import store_kind

STORES = ("chroma", "lancedb")
DIMENSIONS = (64, 128)
SHORTLISTS = (50, 100, 200)
MOST = 10
ROWS_ASKED = 26
"""What `nearest_passages` asks a store for when ten passages are wanted."""
BATCH = 1_000
NOISE = 0.3
"""Length of the noise of a copy, whose vector has length 1."""
TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Vectors:
    """Of the corpus and of the questions, float32 (n, dim) of length 1, and the seconds of each question."""

    name: str
    stored: NDArray[np.float32]
    asked: NDArray[np.float32]
    seconds: NDArray[np.float64]

    @property
    def space(self) -> TenantSpace:
        return TenantSpace("bench", self.name, self.stored.shape[1])

    def first(self, rows: int) -> Vectors:
        return Vectors(self.name, self.stored[:rows], self.asked, self.seconds)


class Searched(Protocol):
    """What a cascade needs of a store."""

    async def query(
        self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int
    ) -> list[Hit]: ...

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]: ...


@dataclass(frozen=True, slots=True)
class Matrix:
    """Vectors in memory, compared row by row."""

    rows: NDArray[np.float32]

    async def query(self, collection: CollectionKey, vector: NDArray[np.float32], *, limit: int) -> list[Hit]:
        return [Hit(row_id(row), score) for row, score in nearest(self.rows, vector, limit)]

    async def vectors(
        self, collection: CollectionKey, ids: Sequence[str]
    ) -> tuple[list[str], NDArray[np.float32]]:
        return list(ids), self.rows[[int(one, 16) for one in ids]]


def row_id(row: int) -> str:
    return f"{row:032x}"


def nearest(rows: NDArray[np.float32], vector: NDArray[np.float32], limit: int) -> list[tuple[int, float]]:
    scores = rows @ vector
    found = np.argpartition(-scores, min(limit, len(scores)) - 1)[:limit]
    return [(int(row), float(scores[row])) for row in found[np.argsort(-scores[found], kind="stable")]]


# --- filling: each store in a process of its own, so that its memory is known ---------------------------


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


async def opened(kind: str, folder: Path) -> VectorStore:
    given = {"data_dir": str(folder), "vector_store": {"kind": kind}}
    return await store_kind(kind).open_store(load_settings(environ={}, overrides=given))


def fill(kind: str, folder: Path, space: TenantSpace, file: Path) -> dict[str, Any]:
    """Write the vectors of the file and do the upkeep. Return the seconds of CPU and the bytes on disk."""

    async def write() -> float:
        vectors = np.load(file, mmap_mode="r")
        store = await opened(kind, folder)
        await store.ensure_collection(space)
        started = process_time() + cpu_seconds_of_children()
        for first in range(0, len(vectors), BATCH):
            part = np.array(vectors[first : first + BATCH])
            ids = [row_id(row) for row in range(first, first + len(part))]
            await store.upsert(space, VectorRows(ids, part, [{"media_id": "bench"}] * len(part), None))
        while await store.debt() != StoreDebt():
            await store.tend()
        spent = process_time() + cpu_seconds_of_children() - started
        await store.close()
        return spent

    spent = asyncio.run(write())
    disk = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    return {"index_cpu_seconds": round(spent, 1), "disk_mb": round(disk / 1e6, 1)}


def memory(kind: str, folder: Path, space: TenantSpace, asked: NDArray[np.float32]) -> float:
    """Return by how many MB the processes of a store that was just opened grow while it is searched."""

    async def search() -> float:
        store = await opened(kind, folder)
        before = _resident_mb()
        for vector in asked:
            await store.query(space, vector, limit=ROWS_ASKED)
        grown = _resident_mb() - before
        await store.close()
        return grown

    return round(asyncio.run(search()), 1)


def _resident_mb() -> float:
    own = psutil.Process()
    return sum(one.memory_info().rss for one in (own, *own.children(recursive=True))) / 1e6


# --- searching -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to search: `first` alone, or `shortlist` of its rows and then `second`."""

    first: Vectors
    second: Vectors | None = None
    shortlist: int = ROWS_ASKED

    @property
    def name(self) -> str:
        return f"{self.first.name}, {self.shortlist}, {self.second.name}" if self.second else self.first.name

    def question_seconds(self) -> NDArray[np.float64]:
        """Return the time to embed each question; the first dimensions of a model come with the others."""
        model = self.first.name.partition("-")[0]
        if self.second is None or self.second.name.partition("-")[0] == model:
            return (self.second or self.first).seconds
        return self.first.seconds + self.second.seconds


@dataclass(slots=True)
class Times:
    """Of a variant: seconds of both stages, by round and question, and the rows found in the last round."""

    first: list[list[float]]
    second: list[list[float]]
    rows: list[list[int]]


def variants(full: Vectors, firsts: Sequence[Vectors]) -> list[Variant]:
    found = [Variant(full)]
    for first in firsts:
        found.append(Variant(first))
        found += [Variant(first, full, shortlist) for shortlist in SHORTLISTS]
    return found


async def answer(
    variant: Variant, places: dict[str, Searched], question: int
) -> tuple[list[int], float, float]:
    """Return the ten rows that are found, and the seconds of each stage."""
    first, second = variant.first, variant.second
    started = perf_counter()
    hits = await places[first.name].query(first.space, first.asked[question], limit=variant.shortlist)
    between = perf_counter()
    if second is None:
        return [int(hit.id, 16) for hit in hits[:MOST]], between - started, 0.0
    ids, vectors = await places[second.name].vectors(second.space, [hit.id for hit in hits])
    vector = second.asked[question]
    scores = (vectors @ vector) / np.maximum(np.linalg.norm(vectors, axis=1), np.float32(1e-9))
    rows = [int(ids[place], 16) for place in np.argsort(-scores, kind="stable")[:MOST]]
    return rows, between - started, perf_counter() - between


async def timed(
    tried: Sequence[Variant], places: dict[str, Searched], count: int, rounds: int
) -> list[Times]:
    """Ask every question of every variant in turn, so that a busy machine is busy for all."""
    found = [Times([], [], [[]] * count) for _ in tried]
    for variant in tried:
        await answer(variant, places, 0)  # what a store loads at first is not a question's
    for _ in range(rounds):
        for times in found:
            times.first.append([])
            times.second.append([])
        for question in range(count):
            for variant, times in zip(tried, found, strict=True):
                rows, first, second = await answer(variant, places, question)
                times.first[-1].append(first)
                times.second[-1].append(second)
                times.rows[question] = rows
    return found


# --- figures -------------------------------------------------------------------------------------------


def milliseconds(rounds: NDArray[np.float64], percentile: float) -> list[float]:
    """Return the percentile of each round: the median of the rounds, the least and the most."""
    each = 1_000 * np.percentile(rounds, percentile, axis=1)
    return [round(float(one), 2) for one in (np.median(each), each.min(), each.max())]


def latency(variant: Variant, times: Times) -> dict[str, Any]:
    first, second = np.array(times.first), np.array(times.second)
    total = variant.question_seconds() + first + second
    found = {
        f"{name}_p{percentile}_ms": milliseconds(one, percentile)
        for name, one in (("first", first), ("second", second), ("total", total))
        for percentile in (50, 95)
    }
    return found | {"search_p95_ms": milliseconds(first + second, 95)}


def tenth_scores(full: Vectors) -> NDArray[np.float64]:
    """Return, of each question, the cosine of the tenth of the nearest rows, by comparing all."""
    return np.array([nearest(full.stored, vector, MOST)[-1][1] for vector in full.asked])


def recall(rows: Sequence[Sequence[int]], full: Vectors, tenth: NDArray[np.float64]) -> float:
    """Return the share of the ten nearest rows that was found. Of rows that tie, any counts."""
    shares = [
        np.mean(full.stored[list(found)] @ vector >= least - TIE)
        for found, vector, least in zip(rows, full.asked, tenth, strict=True)
    ]
    return round(float(np.mean(shares)), 4)


def hits_of(
    rows: Sequence[Sequence[int]], items: Sequence[Question], of: Sequence[Piece]
) -> NDArray[np.float64]:
    """Return 1 for each known item that is found, 0 for the others."""
    return np.array(
        [
            float(hit_at(MOST, item, [of[row].passage for row in found]))
            for item, found in zip(items, rows, strict=True)
        ]
    )


def figures_of(
    tried: Sequence[Variant], times: Sequence[Times], items: Sequence[Question], of: Sequence[Piece] | None
) -> dict[str, Any]:
    """Return the figures of the variants, of which the first is the full vectors alone.

    Copies with noise have no known items: for them `of` is None.
    """
    full = tried[0].first
    tenth = tenth_scores(full)
    alone = None if of is None else hits_of(times[0].rows, items, of)
    base = np.percentile(np.array(times[0].first), 95, axis=1)
    found: dict[str, Any] = {}
    for variant, one in zip(tried, times, strict=True):
        ratio = base / np.percentile(np.array(one.first) + np.array(one.second), 95, axis=1)
        found[variant.name] = latency(variant, one) | {
            "search_p95_times_as_fast_as_full": round(float(np.median(ratio)), 2),
            "recall_at_10": recall(one.rows, full, tenth),
        }
        if of is not None and alone is not None:
            found[variant.name] |= known(hits_of(one.rows, items, of), alone)
    return found


def known(hits: NDArray[np.float64], alone: NDArray[np.float64]) -> dict[str, Any]:
    """Return the share of known items found, and the difference from the full vectors, with intervals."""
    share, difference = wilson(int(hits.sum()), len(hits)), paired_interval(hits - alone)
    return {
        "known_items": [round(float(hits.mean()), 3), round(share.low, 3), round(share.high, 3)],
        "known_items_less_full": [
            round(float((hits - alone).mean()), 3),
            round(difference.low, 3),
            round(difference.high, 3),
        ],
    }


async def side_by_side(
    kinds: Sequence[str],
    full: Vectors,
    firsts: Sequence[Vectors],
    items: Sequence[Question],
    of: Sequence[Piece] | None,
    rounds: int,
) -> dict[str, Any]:
    """Return the figures of all variants in each kind of store, and in memory."""
    tried, every = variants(full, firsts), [full, *firsts]
    found: dict[str, Any] = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as scratch:
            sizes = {one.name: kept(kind, Path(scratch), one) for one in every}
            async with AsyncExitStack() as stack:
                places: dict[str, Searched] = {}
                for one in every:
                    store = await opened(kind, Path(scratch, one.name))
                    stack.push_async_callback(store.close)
                    places[one.name] = store
                times = await timed(tried, places, len(items), rounds)
        found[kind] = {"stored": sizes, "searched": figures_of(tried, times, items, of)}
        print(kind, found[kind], file=sys.stderr, flush=True)
    matrices: dict[str, Searched] = {one.name: Matrix(one.stored) for one in every}
    times = await timed(tried, matrices, len(items), rounds)
    sizes = {one.name: {"memory_mb": round(one.stored.nbytes / 1e6, 1)} for one in every}
    found["in memory"] = {"stored": sizes, "searched": figures_of(tried, times, items, of)}
    return found


def kept(kind: str, scratch: Path, one: Vectors) -> dict[str, Any]:
    file, folder = scratch / f"{one.name}.npy", scratch / one.name
    np.save(file, one.stored)
    filled: dict[str, Any] = apart(fill, kind, folder, one.space, file)
    return filled | {"memory_mb": apart(memory, kind, folder, one.space, one.asked)}


def with_noise(one: Vectors, times: int) -> Vectors:
    """Return the vectors and copies of them, each with noise."""
    rng = np.random.default_rng(18)
    rows, dim = one.stored.shape
    stored = np.tile(one.stored, (times, 1))
    for first in range(rows, len(stored), rows):
        noise = rng.standard_normal((rows, dim), dtype=np.float32)
        stored[first : first + rows] += np.float32(NOISE / np.sqrt(dim)) * noise
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    return Vectors(one.name, stored, one.asked, one.seconds)


def leading(one: Vectors, dim: int) -> Vectors:
    """Return the first dimensions, scaled to length 1, as `dimensions` of the settings does."""

    def cut_off(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        kept_values = vectors[:, :dim]
        lengths = np.maximum(np.linalg.norm(kept_values, axis=1, keepdims=True), np.float32(1e-9))
        shortened: NDArray[np.float32] = np.ascontiguousarray(kept_values / lengths)
        return shortened

    return Vectors(f"{one.name}-{dim}", cut_off(one.stored), cut_off(one.asked), one.seconds)


# --- MiniLM for the shortlist, made for each question --------------------------------------------------


async def embedded_for_each(
    models: Catalogue,
    first: Vectors,
    full: Embedded,
    of: Sequence[Piece],
    count: int,
    price: float | None,
) -> dict[str, Any]:
    """Return how long it takes to embed shortlists by MiniLM, and from when on to embed all is cheaper."""
    found: dict[str, Any] = {}
    per_chunk = full.cpu_seconds / len(of)
    async with loaded("minilm", models, Settings(), Metrics()) as runner:
        for shortlist in SHORTLISTS:
            seconds, cpu, tokens = [], process_time(), 0
            for vector in first.asked[:count]:
                started = perf_counter()
                texts = [of[row].text for row, _ in nearest(first.stored, vector, shortlist)]
                batch = cut(tokenised(texts, runner.info), runner.info)
                await runner.embed(batch, interactive=True)
                seconds.append(perf_counter() - started)
                tokens += int(batch.lengths.sum())
            spent = (process_time() - cpu) / count
            found[f"shortlist of {shortlist}"] = {
                "questions": count,
                "seconds_median": round(float(np.median(seconds)), 2),
                "seconds_most": round(max(seconds), 2),
                "cpu_seconds_a_question": round(spent, 2),
                "tokens_a_question": round(tokens / count),
                "money_a_question": money(tokens / count, price),
                "break_even_questions_per_chunk": round(per_chunk / spent, 4),
            }
    return found


def by_size(first: Vectors, full: Vectors, most: int) -> dict[str, Any]:
    """Return how many of the ten nearest by the full vectors are in the shortlist, by the corpus's size."""
    found: dict[str, Any] = {}
    for rows in (most // 4, most // 2, most):
        less, all_of = first.first(rows), full.first(rows)
        found[f"{rows} chunks"] = {
            f"shortlist of {shortlist}": _covered(less, all_of, shortlist) for shortlist in SHORTLISTS
        }
    return found


def in_some_shortlist(first: Vectors) -> dict[str, Any]:
    """Return the share of the chunks that are in the shortlist of some question: what a cache would hold."""
    shares: dict[str, Any] = {}
    for shortlist in SHORTLISTS:
        rows = {row for vector in first.asked for row, _ in nearest(first.stored, vector, shortlist)}
        shares[f"shortlist of {shortlist}"] = round(len(rows) / len(first.stored), 4)
    return shares


def _covered(first: Vectors, full: Vectors, shortlist: int) -> float:
    """Return the recall at 10 of a shortlist that is ordered by the full vectors, all compared exactly."""
    rows = []
    for short, vector in zip(first.asked, full.asked, strict=True):
        listed = np.array([row for row, _ in nearest(first.stored, short, shortlist)])
        rows.append(listed[np.argsort(-(full.stored[listed] @ vector))[:MOST]].tolist())
    return recall(rows, full, tenth_scores(full))


# --- the whole -----------------------------------------------------------------------------------------


async def vectors_of(
    model: str, models: Catalogue, of: Sequence[Piece], items: Sequence[Question]
) -> tuple[Vectors, Embedded]:
    whole = await embedded(model, models, [piece.text for piece in of])
    vectors, seconds = await asked(model, models, [item.text for item in items])
    return Vectors(model, whole.vectors, vectors, seconds), whole


def money(tokens: float, price: float | None) -> float | None:
    """Return the price of the tokens; None if no price is known."""
    return None if price is None else round(price * tokens / 1e6, 6)


def cost_of(model: str, whole: Embedded, vectors: Vectors, price: float | None) -> dict[str, Any]:
    rows = len(whole.vectors)
    return {
        "chunks": rows,
        "tokens": whole.tokens,
        "cpu_seconds": round(whole.cpu_seconds, 1),
        "chunks_per_cpu_second": round(rows / whole.cpu_seconds, 1),
        "question_p50_ms": milliseconds(vectors.seconds[None], 50)[0],
        "question_p95_ms": milliseconds(vectors.seconds[None], 95)[0],
        "money": money(whole.tokens, price if model == "minilm" else None),
    }


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    models = catalogue(DIMENSIONS)
    of = pieces(given.chunks, models.info("minilm"))
    items = questions(of, given.questions)
    names = ["static", *(f"static-{dim}" for dim in DIMENSIONS)]
    made = {name: await vectors_of(name, models, of, items) for name in names}
    static, *shorter = (vectors for vectors, _ in made.values())
    costs = {name: cost_of(name, whole, vectors, given.price) for name, (vectors, whole) in made.items()}
    print(costs, file=sys.stderr, flush=True)
    found = {"dimensions": await side_by_side(STORES, static, shorter, items, of, given.rounds)}
    larger = with_noise(static, given.times)
    found[f"dimensions, {len(larger.stored)} rows"] = await side_by_side(
        ("lancedb",), larger, [leading(larger, dim) for dim in DIMENSIONS], items, None, given.rounds
    )
    del larger
    some = of[: given.embedded]
    items_of_some = questions(some, given.questions)
    first, _ = await vectors_of("static", models, some, items_of_some)
    full, whole = await vectors_of("minilm", models, some, items_of_some)
    costs["minilm"] = cost_of("minilm", whole, full, given.price)
    found["two models"] = await side_by_side(
        STORES, full, [first, leading(first, 64)], items_of_some, some, given.rounds
    )
    return {
        "chunks": len(of),
        "questions": len(items),
        "chunks_of_two_models": len(some),
        "questions_of_two_models": len(items_of_some),
        "rounds": given.rounds,
        "price_per_million_tokens": given.price,
        "models": costs,
        **found,
        "chunks_in_some_shortlist": in_some_shortlist(static),
        "two models, recall by size": by_size(first, full, len(some)),
        "two models, embedded for each question": await embedded_for_each(
            models, first, whole, some, given.embedded_questions, given.price
        ),
        "load_average": [round(one, 1) for one in os.getloadavg()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=10, help="copies of the static vectors in LanceDB")
    parser.add_argument("--embedded", type=int, default=2_000, help="chunks that MiniLM embeds")
    parser.add_argument("--questions", type=int, default=150)
    parser.add_argument("--embedded-questions", type=int, default=3, help="shortlists that MiniLM embeds")
    parser.add_argument("--rounds", type=int, default=1, help="times that every question is asked")
    parser.add_argument("--price", type=float, help="of a million tokens of the slow model")
    parser.add_argument("--short", action="store_true", help="600 chunks, 250 of them by MiniLM, 8 questions")
    given = parser.parse_args()
    if given.short:
        given.chunks, given.times, given.embedded = 600, 2, 250
        given.questions, given.embedded_questions = 8, 1
    write_report("cascade", asyncio.run(measure(given)))


if __name__ == "__main__":
    main()
