"""Figure S8: the whole pipeline on a GPU, beside `SentenceTransformer.encode` and the device's own ceiling.

    python benchmarks/gpu.py [--shapes minilm,base,large] [--dtype bfloat16] [--chunks 16000] [--rounds 3]

BERT encoders of three sizes, their weights random: speed does not depend on them. Each round runs, in turn
and over the same chunks (the standard library's sources, cut by default): `encode` as it comes (32 texts a
batch), `encode` with the larger batch that was fastest in a trial, our runner from token ids, and the whole
pipeline, documents to a store that keeps nothing. Ratios are formed within a round. The ceiling is the time
of the encoder's matrix products alone, on shapes of one micro-batch. How busy the GPU is says the driver.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import documents, job_requests
from numpy.typing import NDArray
from report import write_report

from embedfleet.bootstrap import open_owner
from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.model_files import bundled_tokenizer
from embedfleet.inference.runner import ModelRunner
from embedfleet.queue_schemas import ChunkingConfig, JobRequest
from embedfleet.settings import Settings, load_settings
from embedfleet.storage.null_store import NullVectorStore

TRIED_BATCHES = (128, 512)
TRIAL_CHUNKS = 2048
SAMPLE_SECONDS = 0.05
CHARS_PER_CHUNK = 1000
CHUNKING = ChunkingConfig()


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a BERT encoder."""

    layers: int
    hidden: int
    heads: int

    @property
    def inner(self) -> int:
        return 4 * self.hidden


SHAPES = {
    "minilm": Shape(6, 384, 12),  # all-MiniLM-L6, bge-micro
    "base": Shape(12, 768, 12),  # bge-base, e5-base, gte-base
    "large": Shape(24, 1024, 16),  # bge-large, e5-large, mxbai-large
}


# --- the model -------------------------------------------------------------------------------------------


def write_model(shape: Shape, folder: Path) -> None:
    """A folder that both sides load: sentence-transformers' layout, mean pooling, normalised, 512 tokens."""
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(bundled_tokenizer()), model_max_length=512, mask_token="[MASK]", **special
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
    )
    raw = folder / "raw"
    BertModel(config).save_pretrained(raw)
    tokenizer.save_pretrained(raw)
    module = models.Transformer(str(raw), max_seq_length=512)
    parts = [module, models.Pooling(shape.hidden, "mean"), models.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    shutil.copy(bundled_tokenizer(), folder / "model" / "tokenizer.json")


def settings_of(folder: Path, dtype: str, device: str, extra: dict[str, Any]) -> Settings:
    entry = {
        "backend": "torch",
        "path": str(folder / "model"),
        "pooling": "mean",
        "max_tokens": 512,
        "dtype": dtype,
        "devices": [device],
        **extra,
    }
    return load_settings(
        environ={},
        overrides={
            "data_dir": str(folder / "data"),
            "models": {"default": "gpu", "catalogue": {"gpu": entry}},
            "embedding_cache": {"enabled": False},
        },
    )


# --- the contestants -------------------------------------------------------------------------------------


def encode(peer: Any, texts: list[str], batch_size: int) -> float:
    started = time.perf_counter()
    peer.encode(texts, batch_size=batch_size)
    return time.perf_counter() - started


async def run_through(runner: ModelRunner, batch: TokenBatch, call_tokens: int) -> float:
    """Two calls at a time, each of what a worker would claim."""
    number = (np.cumsum(batch.lengths) - 1) // call_tokens
    calls = [batch.take(np.flatnonzero(number == call)) for call in range(int(number[-1]) + 1)]
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            outcome = await runner.embed(call)
            assert not outcome.failed

    started = time.perf_counter()
    await asyncio.gather(work(), work())
    return time.perf_counter() - started


class Pipeline:
    """An embedded system, warm, that is given the same documents again and again under other names."""

    def __init__(self, system: Any) -> None:
        self._system = system
        self._laps = 0

    async def run(self, requests: list[JobRequest]) -> tuple[float, int]:
        """(seconds, chunks) from the first submission to the last completion."""
        self._laps += 1
        named = [
            request.model_copy(update={"media_id": f"{self._laps}/{request.media_id}"})
            for request in requests
        ]
        started = time.perf_counter()
        job_ids = await self._system.jobs.create_jobs(named)
        chunks = sum([(await self._system.jobs.wait(job_id)).progress.chunks_stored for job_id in job_ids])
        return time.perf_counter() - started, chunks


# --- the device ------------------------------------------------------------------------------------------


@dataclass
class Busy:
    """Percent of the time in which the GPU ran any kernel, as the driver saw it."""

    samples: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        return round(statistics.fmean(self.samples), 1) if self.samples else None


@contextmanager
def watched(device: str) -> Iterator[Busy]:
    busy, over = Busy(), threading.Event()
    if not device.startswith("cuda"):
        yield busy
        return

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            busy.samples.append(float(torch.cuda.utilization()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield busy
    finally:
        over.set()
        watcher.join()


def product_seconds(shape: Shape, rows: int, dtype: torch.dtype, device: str) -> float:
    """Seconds a token for the encoder's matrix products alone, in micro-batches of so many tokens."""
    total = 0.0
    for width, height, times in (
        (shape.hidden, shape.hidden, 4),
        (shape.hidden, shape.inner, 1),
        (shape.inner, shape.hidden, 1),
    ):
        left = torch.randn(rows, width, device=device, dtype=dtype)
        right = torch.randn(width, height, device=device, dtype=dtype)
        total += times * _median_seconds(partial(torch.matmul, left, right), device)
    return total * shape.layers / rows


def _median_seconds(work: Callable[[], object], device: str) -> float:
    def once() -> float:
        started = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return statistics.median([once() for _ in range(20)][5:])


# --- one shape -------------------------------------------------------------------------------------------


async def measure(shape: Shape, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(shape, folder)
        settings = settings_of(folder, options.dtype, options.device, {"compile": options.compile})
        requests = list(job_requests(documents(options.chunks * CHARS_PER_CHUNK), CHUNKING))
        chunks = chunks_of(requests, settings)
        texts = [chunk.text for chunk in chunks]
        peer = load_peer(folder, options)
        stop = asyncio.Event()
        async with (
            open_owner(settings, purpose="benchmark", store=NullVectorStore()) as system,
            asyncio.TaskGroup() as tasks,
        ):
            began = time.perf_counter()
            runner = await system.models.get("gpu")
            loading = time.perf_counter() - began
            tasks.create_task(system.orchestrator.run(stop))
            bare = as_batch(chunks)
            rounds, busy = await in_turn(runner, bare, peer, texts, Pipeline(system), requests, options)
            worst = worst_cosine(peer, texts[:64], (await runner.embed(bare.take(np.arange(64)))).vectors)
            budget = runner.microbatch_tokens
            stop.set()
        per_token = product_seconds(shape, budget, getattr(torch, options.dtype), options.device)
        return figures(rounds, busy) | {
            "chunks": len(chunks),
            "tokens_mean": round(float(bare.lengths.mean()), 1),
            "microbatch_tokens": budget,
            "load_and_calibrate_seconds": round(loading, 2),
            "least_cosine_to_encode": worst,
            "matrix_products_alone_chunks_per_second": round(1 / per_token / bare.lengths.mean()),
            "matrix_products_tflops": round(24 * shape.layers * shape.hidden**2 / per_token / 1e12, 1),
        }


async def in_turn(
    runner: ModelRunner,
    bare: TokenBatch,
    peer: Any,
    texts: list[str],
    pipeline: Pipeline,
    requests: list[JobRequest],
    options: argparse.Namespace,
) -> tuple[list[dict[str, float]], dict[str, list[float | None]]]:
    """Chunks per second of each contestant, a dictionary a round, and how busy the GPU was meanwhile."""
    trial = texts[:TRIAL_CHUNKS]
    encode(peer, trial, 32)
    await pipeline.run(requests[: max(1, len(requests) // 8)])
    speed = {size: encode(peer, trial, size) for size in TRIED_BATCHES}
    fastest = min(speed, key=speed.__getitem__)
    call_tokens = max(16_384, 4 * runner.microbatch_tokens)
    rounds: list[dict[str, float]] = []
    busy: dict[str, list[float | None]] = {}
    for _ in range(options.rounds):
        row: dict[str, float] = {}
        for name in ("encode", f"encode, {fastest} a batch", "runner", "pipeline"):
            with watched(options.device) as seen:
                count = len(texts)
                if name == "runner":
                    seconds = await run_through(runner, bare, call_tokens)
                elif name == "pipeline":
                    seconds, count = await pipeline.run(requests)
                else:
                    size = 32 if name == "encode" else fastest
                    seconds = await asyncio.to_thread(encode, peer, texts, size)
            row[name] = count / seconds
            busy.setdefault(name, []).append(seen.mean)
        rounds.append(row)
    return rounds, busy


def figures(rounds: list[dict[str, float]], busy: dict[str, list[float | None]]) -> dict[str, Any]:
    def ratio(name: str) -> dict[str, float]:
        return {
            f"{name} / {other}": round(statistics.median(row[name] / row[other] for row in rounds), 3)
            for other in rounds[0]
            if other.startswith("encode")
        }

    return {
        "chunks_per_second": {name: [round(row[name], 1) for row in rounds] for name in rounds[0]},
        "ratio": ratio("pipeline") | ratio("runner"),
        "gpu_busy_percent": busy,
    }


def load_peer(folder: Path, options: argparse.Namespace) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        str(folder / "model"),
        device=options.device,
        model_kwargs={"dtype": getattr(torch, options.dtype)},
    )


def chunks_of(requests: list[JobRequest], settings: Settings) -> list[Chunk]:
    info = Catalogue(settings.models).info("gpu")
    tokenizer = load_tokenizer(info.tokenizer_file)
    chunks: list[Chunk] = []
    for request in requests:
        chunker = Chunker(tokenizer, CHUNKING, max_tokens=info.max_tokens)
        chunks += (chunk for block in chunker.split([request.content]) for chunk in block)
    return chunks


def as_batch(chunks: list[Chunk]) -> TokenBatch:
    return TokenBatch(
        np.concatenate([chunk.token_ids for chunk in chunks]),
        np.array([len(chunk.token_ids) for chunk in chunks], dtype=np.int64),
    )


def worst_cosine(peer: Any, texts: list[str], vectors: NDArray[np.float32]) -> float:
    """Of rows of length 1."""
    reference = np.asarray(peer.encode(texts), dtype=np.float32)
    return round(float((reference * vectors).sum(axis=1).min()), 6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", default="minilm,base,large")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--chunks", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    found = {name: asyncio.run(measure(SHAPES[name], options)) for name in options.shapes.split(",")}
    gpu = torch.cuda.get_device_name() if options.device.startswith("cuda") else None
    write_report("gpu", {"gpu": gpu, "torch": torch.__version__, "dtype": options.dtype, "shapes": found})


if __name__ == "__main__":
    main()
