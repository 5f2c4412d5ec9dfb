"""Figure S8: the whole pipeline on a GPU, beside `SentenceTransformer.encode` and the device's own ceiling.

    python benchmarks/gpu.py [--shapes large,base,minilm] [--dtype bfloat16] [--chunks 8000] [--rounds 2]

BERT encoders of three sizes, their weights random: speed does not depend on them. All embed the same chunks
(`encode` the first 6,000), those of the standard library's sources, cut by default:

- `encode` as it comes, 32 texts a batch (of the first chunks only: it is slow where cuDNN's attention plans
  again for each shape of a batch); `encode` without cuDNN's attention, with 32 and with more texts a batch;
- our runner, from token ids, calls as large as a worker's claims;
- the whole pipeline, documents to a store that keeps nothing: embedded, in one process, and as a fleet, with
  processes for each stage, Redis and PostgreSQL on this machine.

Ratios are formed within a round. The ceiling is the time of the encoder's matrix products alone, on shapes of
one micro-batch. How busy the GPU was is the driver's word.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpus import as_batch, calls, documents, job_requests
from gpu_device import product_seconds, watched
from loguru import logger
from numpy.typing import NDArray
from random_encoders import SHAPES, Shape, write_model
from report import write_report
from storeless_fleet import storeless_fleet

from embedfleet.bootstrap import open_owner
from embedfleet.chunking.chunker import Chunk, Chunker
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.runner import ModelRunner
from embedfleet.job_manager import EmbeddingJobManager
from embedfleet.queue_schemas import ChunkingConfig, JobRequest
from embedfleet.settings import Settings, load_settings
from embedfleet.vectors.null import NullVectorStore
from embedfleet.workers.embedding_worker import tokens_per_claim

TRIED_BATCHES = (128, 256)
TRIAL_CHUNKS = 1536
ENCODED_CHUNKS = 6000
SUBMITTED_TOGETHER = 32
CHARS_PER_CHUNK = 1000
CHUNKING = ChunkingConfig()
TARGET = ">= 1.5 x SentenceTransformer.encode into a null store, GPU busy >= 90%"


def settings_of(folder: Path, dtype: str, device: str) -> Settings:
    entry = {
        "backend": "torch",
        "path": str(folder / "model"),
        "pooling": "mean",
        "max_tokens": 512,
        "dtype": dtype,
        "devices": [device],
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
    waiting = iter([batch.take(positions) for positions in calls(batch.lengths, call_tokens)])

    async def work() -> None:
        for call in waiting:
            outcome = await runner.embed(call)
            assert not outcome.failed

    started = time.perf_counter()
    await asyncio.gather(work(), work())
    return time.perf_counter() - started


class Pipeline:
    """A warm system that is given the same documents again and again, under other names."""

    def __init__(self, jobs: EmbeddingJobManager) -> None:
        self._jobs = jobs
        self._laps = 0

    async def run(self, requests: list[JobRequest]) -> tuple[float, int]:
        """(seconds, chunks) from the first submission to the last completion."""
        self._laps += 1
        named = [
            request.model_copy(update={"media_id": f"{self._laps}/{request.media_id}"})
            for request in requests
        ]
        started = time.perf_counter()
        job_ids: list[str] = []
        for first in range(0, len(named), SUBMITTED_TOGETHER):
            job_ids += await self._jobs.create_jobs(named[first : first + SUBMITTED_TOGETHER])
        chunks = sum([(await self._jobs.wait(job_id)).progress.chunks_stored for job_id in job_ids])
        return time.perf_counter() - started, chunks


@asynccontextmanager
async def fleet(folder: Path, settings: Settings, device: str) -> AsyncIterator[EmbeddingJobManager]:
    """One process for the device, and the other cores for those that cut and store."""
    each = max(1, (os.cpu_count() or 1) // 4)
    pool = {"workers": each, "min_workers": each, "max_workers": each}
    one = {"workers": 1, "min_workers": 1, "max_workers": 1, "models": ["gpu"]}
    config = {
        "models": json.loads(settings.models.model_dump_json(exclude_defaults=True)),
        "embedding_cache": {"enabled": False},
        "worker_pools": {
            "chunking": pool,
            "embedding": one | ({"devices": [device]} if device.startswith("cuda") else {}),
            "storage": pool,
        },
    }
    (folder / "fleet").mkdir()
    async with storeless_fleet(folder / "fleet", config) as servers:
        yield servers.jobs


# --- one shape -------------------------------------------------------------------------------------------


async def measure(shape: Shape, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        write_model(shape, folder)
        settings = settings_of(folder, options.dtype, options.device)
        requests = list(job_requests(documents(options.chunks * CHARS_PER_CHUNK), CHUNKING))
        chunks = chunks_of(requests, settings)
        found: dict[str, Any] = {}
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            system = await stack.enter_async_context(
                open_owner(settings, purpose="benchmark", store=NullVectorStore())
            )
            began = time.perf_counter()
            runner = await system.models.get("gpu")
            found["load_and_calibrate_seconds"] = round(time.perf_counter() - began, 2)
            found["microbatch_tokens"] = runner.microbatch_tokens
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(system.orchestrator.run(stop))
            stack.callback(stop.set)
            pipelines = {"pipeline, embedded": Pipeline(system.jobs)}
            if options.fleet:
                jobs = await stack.enter_async_context(fleet(folder, settings, options.device))
                pipelines["pipeline, fleet"] = Pipeline(jobs)
            contest = Contest(
                runner, as_batch(chunks), load_peer(folder, options), chunks, pipelines, requests
            )
            found |= await contest.run(options)
        per_token = product_seconds(
            shape, found["microbatch_tokens"], getattr(torch, options.dtype), options.device
        )
        mean = float(np.mean([len(chunk.token_ids) for chunk in chunks]))
        return found | {
            "chunks": len(chunks),
            "tokens_mean": round(mean, 1),
            "matrix_products_alone_chunks_per_second": round(1 / per_token / mean),
            "matrix_products_tflops": round(24 * shape.layers * shape.hidden**2 / per_token / 1e12, 1),
        }


@dataclass
class Contest:
    """All on the same chunks."""

    runner: ModelRunner
    batch: TokenBatch
    peer: Any
    chunks: list[Chunk]
    pipelines: dict[str, Pipeline]
    requests: list[JobRequest]
    rounds: list[dict[str, float]] = field(default_factory=list)
    busy: dict[str, list[float | None]] = field(default_factory=dict)

    async def run(self, options: argparse.Namespace) -> dict[str, Any]:
        texts = [chunk.text for chunk in self.chunks]
        trial = texts[:TRIAL_CHUNKS]
        torch.backends.cuda.enable_cudnn_sdp(False)
        encode(self.peer, trial, 32)
        speed = {size: encode(self.peer, trial, size) for size in TRIED_BATCHES}
        larger = min(speed, key=speed.__getitem__)
        for pipeline in self.pipelines.values():
            await pipeline.run(self.requests[: max(1, len(self.requests) // 8)])
        for _ in range(options.rounds):
            await self._round(
                {"encode, tuned": 32, f"encode, tuned, {larger} a batch": larger}, options.device
            )
        few = np.arange(min(64, len(texts)))
        vectors = (await self.runner.embed(self.batch.take(few))).vectors
        worst = worst_cosine(self.peer, texts[: len(few)], vectors)
        torch.backends.cuda.enable_cudnn_sdp(True)
        as_it_comes = len(trial) / encode(self.peer, trial, 32)
        return figures(self.rounds, self.busy, as_it_comes) | {"least_cosine_to_encode": worst}

    async def _round(self, sizes: dict[str, int], device: str) -> None:
        row: dict[str, float] = {}
        texts = [chunk.text for chunk in self.chunks[:ENCODED_CHUNKS]]
        for name, size in sizes.items():
            with self._watched(name, device):
                row[name] = len(texts) / await asyncio.to_thread(encode, self.peer, texts, size)
        with self._watched("runner", device):
            call_tokens = tokens_per_claim(self.runner.microbatch_tokens)
            row["runner"] = len(self.batch) / await run_through(self.runner, self.batch, call_tokens)
        for name, pipeline in self.pipelines.items():
            with self._watched(name, device):
                seconds, count = await pipeline.run(self.requests)
            assert count == len(self.batch), (count, len(self.batch))
            row[name] = count / seconds
        print({name: round(value) for name, value in row.items()}, self.busy, file=sys.stderr, flush=True)
        self.rounds.append(row)

    @contextmanager
    def _watched(self, name: str, device: str) -> Iterator[None]:
        with watched(device) as seen:
            yield
        self.busy.setdefault(name, []).append(seen.mean)


def figures(
    rounds: list[dict[str, float]], busy: dict[str, list[float | None]], as_it_comes: float
) -> dict[str, Any]:
    own = [name for name in rounds[0] if not name.startswith("encode")]
    return {
        "chunks_per_second": {name: [round(row[name], 1) for row in rounds] for name in rounds[0]}
        | {"encode, as it comes": round(as_it_comes, 1)},
        "times_as_fast_as": {
            name: {
                other: round(statistics.median(row[name] / row[other] for row in rounds), 3)
                for other in rounds[0]
                if other not in own
            }
            | {"encode, as it comes": round(statistics.median(row[name] for row in rounds) / as_it_comes, 2)}
            for name in own
        },
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


def worst_cosine(peer: Any, texts: list[str], vectors: NDArray[np.float32]) -> float:
    """Of rows of length 1."""
    reference = np.asarray(peer.encode(texts), dtype=np.float32)
    return round(float((reference * vectors).sum(axis=1).min()), 6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", default="large,base,minilm")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--chunks", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--fleet", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    logger.disable("embedfleet")
    gpu = torch.cuda.get_device_name() if options.device.startswith("cuda") else None
    found: dict[str, Any] = {}
    for name in options.shapes.split(","):
        found[name] = asyncio.run(measure(SHAPES[name], options))
        # After each: a rented machine may go at any time.
        about = {"gpu": gpu, "torch": torch.__version__, "dtype": options.dtype}
        write_report("gpu", about | {"target": TARGET, "shapes": found})


if __name__ == "__main__":
    main()
