"""Figure S5: one small document, from submission to searchable, in a warm and otherwise idle service.

    python benchmarks/latency.py [--system embedded|fleet|http] [--documents 200] [--model minilm]

Documents of one chunk are submitted one by one, each when the one before is done. The time is from the call
of `create_job` until `wait` has returned: the vector is in Chroma and the document is live. The first
documents, which open the collection and warm every path, are not counted. Beside it, in the same round, the
bare model on the same texts: what is left when it is taken off is embedfleet's, SQL's and Chroma's. With
`http` the system is `embedfleet serve` in a process of its own, and the calls are those of its client: two
requests a document, one of which waits. Its figures contain what the two processes take from each other.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from corpus import documents
from loguru import logger
from report import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.bootstrap import open_owner
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.client import AsyncClient
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.queue_schemas import JobStatus
from embedfleet.settings import ModelsSettings, load_settings
from embedfleet.tenant_access import TenantAccess
from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
from support.fleet import Fleet
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer

TENANT = "bench"
WARM_UP = 10
CHARS = 500
"""One chunk, whatever the text: no text of so many characters has more tokens than the model takes."""

Jobs = TenantAccess | AsyncClient
OpenSystem = Callable[[Path, str], AbstractAsyncContextManager[Jobs]]
"""A running system in a directory, with this default model loaded; drained and closed after the block."""


@asynccontextmanager
async def embedded(directory: Path, model: str) -> AsyncIterator[Jobs]:
    settings = load_settings(environ={}, overrides={"data_dir": str(directory), "models": {"default": model}})
    stop = asyncio.Event()
    async with open_owner(settings, purpose="benchmark") as system, asyncio.TaskGroup() as tasks:
        await system.models.get(model)
        tasks.create_task(system.orchestrator.run(stop))
        try:
            yield system.jobs.of(TENANT)
        finally:
            stop.set()


@asynccontextmanager
async def fleet(directory: Path, model: str) -> AsyncIterator[Jobs]:
    """Worker processes on Redis, PostgreSQL and a Chroma server of this machine; we are another process."""
    with (
        RedisServer() as redis,
        PostgresServer() as postgres,
        PostgresDatabases(postgres).migrated() as database,
        ChromaServer(directory / "chroma") as chroma,
    ):
        config = {
            "data_dir": str(directory),
            "redis": {"url": redis.url},
            "database": {"url": database},
            "vector_store": {"url": chroma.url},
            "models": {"default": model},
        }
        one = Fleet(directory, config)
        with one.orchestrator():
            async with one.guest() as guest:
                yield guest.jobs.of(TENANT)


@asynccontextmanager
async def http(directory: Path, model: str) -> AsyncIterator[Jobs]:
    with served(directory, model) as address:
        async with AsyncClient(address, tenant=TENANT) as client:
            yield client


@contextmanager
def served(directory: Path, model: str) -> Iterator[str]:
    """Start a server in a process of its own, and yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "embedfleet", "serve", "--port", "0", "--data-dir", str(directory)],
        env=os.environ | {"EMBEDFLEET_MODELS__DEFAULT": model},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = next(line.split()[1] for line in process.stdout if line.split()[0] == "API")
        yield said.removesuffix("/v1,")
    finally:
        process.terminate()
        process.communicate()


SYSTEMS: Mapping[str, OpenSystem] = {"embedded": embedded, "fleet": fleet, "http": http}


def small_texts(number: int) -> list[str]:
    """Beginnings of real documents, each of one chunk and unlike the others."""
    return [f"{i} {text[:CHARS]}" for i, (_, text) in zip(range(number), documents(10**12), strict=False)]


async def latencies(open_system: OpenSystem, model: str, number: int, directory: Path) -> list[float]:
    """Seconds of each document, in order."""
    seconds: list[float] = []
    async with open_system(directory, model) as jobs:
        for media_id, text in enumerate(small_texts(WARM_UP + number)):
            started = perf_counter()
            job_id = await jobs.create_job(media_id=media_id, content=text)
            info = await jobs.wait(job_id)
            seconds.append(perf_counter() - started)
            assert (info.status, info.progress.chunks_stored) == (JobStatus.COMPLETED, 1), info
    return seconds[WARM_UP:]


def model_alone(model: str, number: int) -> list[float]:
    """Seconds of the bare model for each document's text, tokenised before."""
    catalogue = Catalogue(ModelsSettings())
    tokenizer = load_tokenizer(catalogue.info(model).tokenizer_file)
    backend = catalogue.open(model)
    seconds: list[float] = []
    for text in small_texts(WARM_UP + number):
        token_ids, lengths = tokenizer.encode_batch([text])
        batch = TokenBatch(token_ids, lengths)
        started = perf_counter()
        backend.embed_tokens(batch)
        seconds.append(perf_counter() - started)
    backend.close()
    return seconds[WARM_UP:]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def one_round(open_system: OpenSystem, model: str, number: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        seconds = asyncio.run(latencies(open_system, model, number, Path(scratch)))
    model_seconds = model_alone(model, number)
    p50, p99 = percentile(seconds, 0.5), percentile(seconds, 0.99)
    return {
        "p50_ms": round(1e3 * p50, 1),
        "p90_ms": round(1e3 * percentile(seconds, 0.9), 1),
        "p99_ms": round(1e3 * p99, 1),
        "max_ms": round(1e3 * max(seconds), 1),
        "p99_of_p50": round(p99 / p50, 2),
        "model_alone_p50_ms": round(1e3 * percentile(model_seconds, 0.5), 1),
        "model_alone_p99_ms": round(1e3 * percentile(model_seconds, 0.99), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", choices=sorted(SYSTEMS), default="embedded")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="minilm")
    arguments = parser.parse_args()
    logger.disable("embedfleet")
    rounds = [
        one_round(SYSTEMS[arguments.system], arguments.model, arguments.documents)
        for _ in range(arguments.rounds)
    ]
    figures: dict[str, Any] = {
        "system": arguments.system,
        "model": arguments.model,
        "documents": arguments.documents,
        "target": "p50 <= 150 ms embedded, <= 200 ms through Redis; p99 <= 2 x p50",
        "rounds": rounds,
        "median": {name: statistics.median(one[name] for one in rounds) for name in rounds[0]},
    }
    write_report(f"latency_{arguments.system}", figures)


if __name__ == "__main__":
    main()
