"""Requests a second and their latency at `/v1/embeddings`, beside infinity with the same model.

    python benchmarks/embeddings_api.py [--seconds 10] [--rounds 3] [--clients 1 8 32] [--chars 300]

Both servers run all the time, each in a process of its own, and take turns round by round: the one that is
not asked is idle. A client sends a request of one text when it has the answer to the one before. embedfleet
has the model as it comes with it (8-bit weights), and with the fp32 weights on torch, which are infinity's
too. Every request of embedfleet is counted in its ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import httpx
import numpy as np
from corpus import documents
from encoders.process import ROOT, CannotRun, model_folder
from numpy.typing import NDArray
from report import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.loopback_server import free_port

START_SECONDS = 120.0
WARM_UP_REQUESTS = 20
TEXTS = 512


@dataclass(frozen=True)
class Contestant:
    """A model on a server."""

    name: str
    port: int
    path: str
    model: str

    def request(self, text: str) -> bytes:
        """Return a whole HTTP request for the vector of a text."""
        body = json.dumps({"model": self.model, "input": [text], "encoding_format": "float"}).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of the texts. Waits until the model is loaded."""
        body = {"model": self.model, "input": list(texts), "encoding_format": "float"}
        deadline = perf_counter() + START_SECONDS
        while True:
            url = f"http://127.0.0.1:{self.port}{self.path}"
            answer = httpx.post(url, json=body, timeout=START_SECONDS)
            if answer.status_code == 200:
                rows = [row["embedding"] for row in answer.json()["data"]]
                return np.array(rows, dtype=np.float32)
            if answer.status_code != 503 or perf_counter() > deadline:
                raise CannotRun(f"{self.name}: {answer.text}")
            sleep(1.0)


@contextmanager
def server(command: Sequence[str], port: int, log: Path, directory: Path) -> Iterator[None]:
    """A server process that answers; ended after the block. Raises CannotRun if it does not."""
    quiet = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=os.environ | quiet, stdout=output, stderr=output, text=True
        )
    try:
        deadline = perf_counter() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or perf_counter() > deadline:
                raise CannotRun(f"{command[0]}: {log.read_text()[-2_000:]}")
            sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=1.0)
    except httpx.HTTPError:
        return False
    return True


async def ask(contestant: Contestant, requests: Sequence[bytes], clients: int, seconds: float) -> list[float]:
    """Send requests for so many seconds. Returns the latency of each that was answered by then."""
    latencies: list[float] = []
    end = perf_counter() + seconds
    numbers = iter(range(10**9))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", contestant.port)
        try:
            while (started := perf_counter()) < end:
                writer.write(requests[next(numbers) % len(requests)])
                await read_answer(reader)
                latencies.append(perf_counter() - started)
        finally:
            writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return latencies


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").lower().split("\r\n")
    if " 200 " not in status:
        raise CannotRun(status)
    headers = dict(line.split(": ", 1) for line in lines if line)
    return await reader.readexactly(int(headers["content-length"]))


def figures_of(latencies: Sequence[float], seconds: float) -> dict[str, float]:
    milliseconds = sorted(1000 * one for one in latencies)
    return {
        "requests_per_second": round(len(latencies) / seconds, 1),
        "p50_ms": round(statistics.median(milliseconds), 2),
        "p99_ms": round(milliseconds[min(len(milliseconds) - 1, int(0.99 * len(milliseconds)))], 2),
    }


def texts_of(chars: int) -> list[str]:
    """Beginnings of real documents, each unlike the others."""
    found: list[str] = []
    for number, (_, text) in zip(range(TEXTS), documents(10**12), strict=False):
        found.append(f"{number} {text[:chars]}")
    return found


@contextmanager
def contestants(directory: Path) -> Iterator[list[Contestant]]:
    """Both servers, with their models. Without infinity installed, only embedfleet."""
    folder = model_folder(directory / "model")
    config = {
        "data_dir": str(directory / "data"),
        "models": {
            "default": "minilm",
            "catalogue": {"minilm-fp32": {"backend": "torch", "path": str(folder)}},
        },
    }
    (directory / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    ours, theirs = free_port(), free_port()
    embedfleet = [sys.executable, "-m", "embedfleet", "serve", "--port", str(ours)]
    embedfleet += ["--config", str(directory / "config.yaml")]
    with ExitStack() as stack:
        stack.enter_context(server(embedfleet, ours, directory / "embedfleet.log", directory))
        found = [
            Contestant("embedfleet, 8-bit", ours, "/v1/embeddings", "minilm"),
            Contestant("embedfleet, fp32", ours, "/v1/embeddings", "minilm-fp32"),
        ]
        python = ROOT / ".venv-infinity" / "bin" / "python"
        if python.exists():
            infinity = [str(python), "-m", "encoders.infinity_server", str(folder), str(theirs)]
            stack.enter_context(server(infinity, theirs, directory / "infinity.log", ROOT / "benchmarks"))
            found.append(Contestant("infinity, fp32", theirs, "/embeddings", "minilm"))
        else:
            print("infinity: not installed: make .venv-infinity/.made", file=sys.stderr)
        yield found


def least_cosines(found: Sequence[Contestant], texts: Sequence[str]) -> dict[str, float]:
    """How alike the vectors of each are to those of the last: the least cosine of some texts."""
    vectors = {one.name: one.vectors(texts[:32]) for one in found}
    reference = vectors[found[-1].name]
    return {name: round(float((rows * reference).sum(axis=1).min()), 5) for name, rows in vectors.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0, help="of each server in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="a second of each, for a test")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--chars", type=int, default=300, help="of a text: about a quarter as many tokens")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.seconds, arguments.rounds, arguments.clients = 1.0, 1, [4]
    texts = texts_of(arguments.chars)
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as scratch, contestants(Path(scratch)) as found:
        cosines = least_cosines(found, texts)  # loads every model
        requests = {one.name: [one.request(text) for text in texts] for one in found}
        for _ in range(arguments.rounds):
            for clients in arguments.clients:
                for one in found:
                    asyncio.run(ask(one, requests[one.name][:WARM_UP_REQUESTS], clients, 0.5))
                    latencies = asyncio.run(ask(one, requests[one.name], clients, arguments.seconds))
                    figures = figures_of(latencies, arguments.seconds)
                    rounds.setdefault(one.name, {}).setdefault(str(clients), []).append(figures)
                    print(f"{one.name}, {clients} clients: {figures}", file=sys.stderr)
    write_report(
        "embeddings_api",
        {
            "chars_per_text": arguments.chars,
            "seconds_per_round": arguments.seconds,
            "least_cosine_to_the_last": cosines,
            "rounds_by_server_and_clients": rounds,
        },
    )


if __name__ == "__main__":
    main()
