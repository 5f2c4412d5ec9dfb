"""MiniLM on the CPU: embedfleet's runner beside a bare ONNX Runtime loop and other encoders.

All embed the same chunks on the same cores, in turn; figures are medians over the rounds and ratios are
formed within a round, so that a busy machine hurts all alike. The runner, the bare loop and fastembed run
the same 8-bit weights, `SentenceTransformer.encode` and infinity the fp32 ones. The runner and the bare loop
start from token ids, the others tokenise too (about 2% of their time). fastembed and infinity are processes
of their own, as they cannot be installed beside the rest; where one is not there, the reason is given. That
all did the work is shown by the cosine of their vectors to those of sentence-transformers.

    python benchmarks/embedding.py [--chunks 64] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import pkgutil
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import onnxruntime
from corpus import as_batch, calls, documents
from encoders.process import ENCODERS, CannotRun, EncoderProcess, encoder_process
from numpy.typing import NDArray
from reference_models import load_sentence_transformer
from report import write_report

from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.batching import plan_batches
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.model_files import find_bundled_minilm
from embedfleet.inference.runner import ModelRunner
from embedfleet.queue_schemas import ChunkingConfig
from embedfleet.settings import ModelsSettings

BUDGET_TOKENS = 2048
CALL_TOKENS = 16_384  # what an embedding worker claims at once
CORPUS_CHARS = 2_000_000
CLS, SEP = 101, 102


@dataclass(frozen=True, slots=True)
class Taken:
    """Time on the wall, and of this process on the cores: the latter bears with busy neighbours."""

    seconds: float
    cpu_seconds: float

    @classmethod
    def until_now(cls) -> Taken:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, earlier: Taken) -> Taken:
        return Taken(self.seconds - earlier.seconds, self.cpu_seconds - earlier.cpu_seconds)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--chunks", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    asyncio.run(measure(options.chunks, options.rounds))


async def measure(n_chunks: int, rounds: int) -> None:
    chunks = real_chunks(n_chunks)
    batch, texts = as_batch(chunks), [chunk.text for chunk in chunks]
    settings = ModelsSettings(microbatch_tokens=BUDGET_TOKENS)
    runner = ModelRunner([partial(Catalogue(settings).open, "minilm")], microbatch_tokens=BUDGET_TOKENS)
    await runner.start()
    bare, peer = BareLoop(), load_sentence_transformer()
    absent: dict[str, str] = {}
    taken: dict[str, list[Taken]] = {}
    with ExitStack() as stack:
        others = opened_encoders(texts, stack, absent)
        for number in range(rounds + 1):
            this_round = {
                "runner": await run_through(runner, batch),
                "bare_loop": timed(lambda: bare.embed(batch)),
                "sentence_transformers": timed(lambda: peer.encode(texts)),
                **{name: Taken(*process.encode()) for name, process in others.items()},
            }
            if number:  # the first round warms them all up
                for name, spent in this_round.items():
                    taken.setdefault(name, []).append(spent)
        reference = peer.encode(texts)
        vectors = {name: process.vectors() for name, process in others.items()}
        versions = {name: process.versions for name, process in others.items()}
    vectors["runner"] = (await runner.embed(batch)).vectors
    vectors["bare_loop"] = bare.embed(batch)
    await runner.close()
    own = {
        "absent": absent,
        "versions_of_the_others": versions,
        "mean_cosine_to_sentence_transformers": {
            name: round(mean_cosine(found, reference), 5) for name, found in vectors.items()
        },
    }
    write_report("embedding", figures(taken, batch) | own)


def figures(taken: dict[str, list[Taken]], batch: TokenBatch) -> dict[str, Any]:
    corpus = as_batch(corpus_chunks(CORPUS_CHARS))
    return {
        "chunks": len(batch),
        "tokens_mean": round(float(batch.lengths.mean()), 1),
        "microbatch_tokens": BUDGET_TOKENS,
        "threads": len(os.sched_getaffinity(0)),
        "by_the_clock": compared(
            {name: [t.seconds for t in rounds] for name, rounds in taken.items()}, batch
        ),
        "by_cpu_time": compared(
            {name: [t.cpu_seconds for t in rounds] for name, rounds in taken.items()}, batch
        ),
        "padding_waste_percent": {
            "runner": round(waste_percent(batch, planned_calls(batch)), 2),
            "bare_loop": round(waste_percent(batch, [sorted_slices(batch.lengths)]), 2),
            "library sources, default chunking": round(waste_percent(corpus, planned_calls(corpus)), 2),
            "library sources, chunks": len(corpus),
            "target": "< 5",
        },
    }


def compared(seconds: dict[str, list[float]], batch: TokenBatch) -> dict[str, Any]:
    ours = seconds["runner"]
    return {
        "chunks_per_second": {
            name: round(len(batch) / statistics.median(spent), 2) for name, spent in seconds.items()
        },
        "runner_ratio": {
            name: round(statistics.median(other / own for own, other in zip(ours, spent, strict=True)), 3)
            for name, spent in seconds.items()
            if name != "runner"
        },
        "seconds": {name: [round(spent, 3) for spent in rounds] for name, rounds in seconds.items()},
    }


# --- the contestants -------------------------------------------------------------------------------------


async def run_through(runner: ModelRunner, batch: TokenBatch) -> Taken:
    """Call after call, each of what a worker would claim."""
    started = Taken.until_now()
    for positions in calls(batch.lengths, CALL_TOKENS):
        outcome = await runner.embed(batch.take(positions))
        assert not outcome.failed
    return Taken.until_now() - started


class BareLoop:
    """What one would write without embedfleet: sort by length, slice to the budget, run, pool."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        self._session = onnxruntime.InferenceSession(
            find_bundled_minilm().weights[0], options, providers=["CPUExecutionProvider"]
        )

    def embed(self, batch: TokenBatch) -> NDArray[np.float32]:
        vectors = np.empty((len(batch), 384), dtype=np.float32)
        starts = np.cumsum(batch.lengths) - batch.lengths
        for positions in sorted_slices(batch.lengths):
            longest = int(batch.lengths[positions].max()) + 2
            ids = np.zeros((len(positions), longest), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, position in enumerate(positions):
                length = int(batch.lengths[position])
                text = batch.token_ids[starts[position] : starts[position] + length]
                ids[row, : length + 2] = [CLS, *text.tolist(), SEP]
                mask[row, : length + 2] = 1
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = self._session.run(None, feeds)[0]
            sums = (hidden * mask[:, :, None]).sum(axis=1)
            vectors[positions] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return vectors


def opened_encoders(texts: list[str], stack: ExitStack, absent: dict[str, str]) -> dict[str, EncoderProcess]:
    """Those that can run; the others go to `absent` with the reason."""
    found: dict[str, EncoderProcess] = {}
    for name in ENCODERS:
        try:
            found[name] = stack.enter_context(encoder_process(name, texts))
        except CannotRun as exc:
            absent[name] = str(exc)
            print(exc, file=sys.stderr)
    return found


def mean_cosine(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Of rows of length 1."""
    assert vectors.shape == reference.shape, (vectors.shape, reference.shape)
    return float((vectors * reference).sum(axis=1).mean())


# --- the work --------------------------------------------------------------------------------------


def real_chunks(n_chunks: int) -> list[Chunk]:
    """The standard library's docstrings, a document a module, as embedfleet cuts them by default."""
    info = Catalogue(ModelsSettings()).info("minilm")
    chunker = Chunker(load_tokenizer(info.tokenizer_file), ChunkingConfig(), max_tokens=info.max_tokens)
    chunks: list[Chunk] = []
    for module in sorted(
        info.name for info in pkgutil.iter_modules() if info.name in sys.stdlib_module_names
    ):
        if module.startswith(("_", "antigravity", "this", "idlelib")):
            continue  # private, or does something when imported
        chunks += (chunk for group in chunker.split([docstrings_of(module)]) for chunk in group)
        if len(chunks) >= n_chunks:
            return chunks[:n_chunks]
    raise SystemExit(f"only {len(chunks)} chunks of text here: lower --chunks")


def corpus_chunks(total_chars: int) -> list[Chunk]:
    """Library sources, as embedfleet cuts them by default."""
    info = Catalogue(ModelsSettings()).info("minilm")
    chunker = Chunker(load_tokenizer(info.tokenizer_file), ChunkingConfig(), max_tokens=info.max_tokens)
    return [chunk for _, text in documents(total_chars) for group in chunker.split([text]) for chunk in group]


def docstrings_of(name: str) -> str:
    try:
        module = import_module(name)
    except ImportError:  # of another platform
        return ""
    members = [module, *(getattr(module, member) for member in sorted(vars(module)))]
    return "\n".join(doc for doc in map(inspect.getdoc, members) if doc)


def planned_calls(batch: TokenBatch) -> list[list[NDArray[np.int64]]]:
    return [
        [positions[group] for group in plan_batches(batch.lengths[positions], budget_tokens=BUDGET_TOKENS)]
        for positions in calls(batch.lengths, CALL_TOKENS)
    ]


def sorted_slices(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The bare loop's batches: longest first, as many as the budget holds."""
    order = np.argsort(-lengths)
    slices = []
    while len(order):
        size = max(1, BUDGET_TOKENS // int(lengths[order[0]]))
        slices.append(order[:size])
        order = order[size:]
    return slices


def waste_percent(batch: TokenBatch, calls: list[list[NDArray[np.int64]]]) -> float:
    """Padding as a share of the texts' own tokens."""
    padded = sum(len(group) * int(batch.lengths[group].max()) for groups in calls for group in groups)
    return 100 * (padded / int(batch.lengths.sum()) - 1)


def timed(work: Callable[[], object]) -> Taken:
    started = Taken.until_now()
    work()
    return Taken.until_now() - started


if __name__ == "__main__":
    main()
