"""Many listeners of one API process: none loses an event, and what they cost.

    python benchmarks/streams.py [--listeners 200] [--jobs 1000] [--short]

`embedfleet serve` runs in a process of its own with the stub model, so the figures are of the streams and not
of a model. Listeners follow `/v1/events` of one tenant while jobs are submitted and end. Every second
listener drops its connection again and again, and comes back with `Last-Event-ID`. Listeners, submitters and
the server share the cores (`taskset -c 0,1` for two). The same jobs are run without listeners before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from report import write_report

SUBMITTERS = 8
CUT_AFTER_SECONDS = (0.2, 1.5)
HANG_SECONDS = 600.0


@dataclass(slots=True)
class Listener:
    """What one listener got: the position of each event, and how late it came, in seconds."""

    positions: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    lags: list[float] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run the server; yields its address and its process."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDFLEET_")}
    environ |= {
        "EMBEDFLEET_DATA_DIR": str(folder / "data"),
        "EMBEDFLEET_MODELS__DEFAULT": "stub",
        "EMBEDFLEET_MONITORING__LOG_LEVEL": "WARNING",
        "EMBEDFLEET_MONITORING__METRICS_PORT": "0",
    }
    command = [sys.executable, "-m", "embedfleet", "serve", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        while True:
            line = (await process.stdout.readline()).decode()
            if not line:
                raise RuntimeError("the server ended at its start")
            found = re.search(r"(http://\S+)/v1", line)
            if found is not None:
                break
        yield found[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def listen(url: str, listener: Listener, jobs: int, *, cut: bool, rng: random.Random) -> None:
    """Follow the events until all jobs have ended. With `cut`, connect again and again."""
    while len(listener.seen) < jobs:
        listener.connections += 1
        limit = rng.uniform(*CUT_AFTER_SECONDS) if cut else None
        try:
            async with asyncio.timeout(limit):
                await _one_connection(url, listener, jobs)
        except TimeoutError:
            if limit is None:
                raise


async def _one_connection(url: str, listener: Listener, jobs: int) -> None:
    """Read plain lines: a client library would take more time than the server."""
    address = urlsplit(url)
    assert address.hostname is not None
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        last = f"Last-Event-ID: {listener.positions[-1]}\r\n" if listener.positions else ""
        query = "" if last else "?after=0"
        head = f"GET /v1/events{query} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n"
        writer.write(head.encode())
        data = b""
        while len(listener.seen) < jobs:
            line = await reader.readline()
            if not line:
                raise ConnectionError("the server ended the stream")
            if line.startswith(b"data: "):
                data = line[6:]
            elif line.startswith(b"id: "):
                listener.positions.append(int(line[4:]))
                listener.seen.add(listener.positions[-1])
                ended = datetime.fromisoformat(json.loads(data)["created_at"]).timestamp()
                listener.lags.append(time() - ended)
    finally:
        writer.close()


async def submit(url: str, name: str, jobs: int) -> None:
    """Submit the jobs, a few at a time."""
    numbers = iter(range(jobs))
    async with httpx.AsyncClient(base_url=url, timeout=HANG_SECONDS) as client, asyncio.TaskGroup() as tasks:

        async def one_after_the_other() -> None:
            for number in numbers:
                document = {"media_id": f"{name}-{number}", "content": f"document {number} of {name}"}
                (await client.post("/v1/jobs", json=document)).raise_for_status()

        for _ in range(SUBMITTERS):
            tasks.create_task(one_after_the_other())


def cpu_seconds(process: psutil.Process) -> float:
    """The CPU time of the server without its children."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def run(url: str, process: psutil.Process, listeners: int, jobs: int, name: str) -> dict[str, Any]:
    """Run the jobs with so many listeners, and return what it took."""
    rng = random.Random(15)
    ears = [Listener() for _ in range(listeners)]
    watcher = Listener()
    begun, cpu = time(), cpu_seconds(process)
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        for number, ear in enumerate(ears):
            tasks.create_task(listen(url, ear, jobs, cut=number % 2 == 1, rng=rng))
        tasks.create_task(listen(url, watcher, jobs, cut=False, rng=rng))
        tasks.create_task(submit(url, name, jobs))
    seconds = time() - begun
    expected = list(range(1, jobs + 1))
    lags = sorted(lag for ear in (ears or [watcher]) if ear.connections == 1 for lag in ear.lags)
    return {
        "listeners": listeners,
        "jobs": jobs,
        "seconds": round(seconds, 2),
        "events_delivered": sum(len(ear.positions) for ear in ears),
        "events_lost": sum(len(set(expected) - ear.seen) for ear in ears),
        "events_out_of_order": sum(ear.positions != sorted(ear.positions) for ear in ears),
        "connections": sum(ear.connections for ear in ears),
        "lag_seconds_p50": round(lags[len(lags) // 2], 3),
        "lag_seconds_p99": round(lags[int(len(lags) * 0.99)], 3),
        "server_cpu_seconds": round(cpu_seconds(process) - cpu, 2),
        "server_rss_mb": round(process.memory_info().rss / 2**20),
    }


async def measure(listeners: int, jobs: int) -> list[dict[str, Any]]:
    """Run without listeners, and with them, each on a fresh server."""
    found = []
    for number in (0, listeners):
        with tempfile.TemporaryDirectory() as folder:
            async with served(Path(folder)) as (url, process):
                found.append(await run(url, process, number, jobs, f"run-{number}"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--short", action="store_true", help="a few listeners and jobs, to see that it runs")
    asked = parser.parse_args()
    size = (10, 40) if asked.short else (asked.listeners, asked.jobs)
    rows = asyncio.run(measure(*size))
    for row in rows:
        print(row)
    write_report("streams", {"rows": rows})
    if any(row["events_lost"] or row["events_out_of_order"] for row in rows):
        sys.exit("an event was lost, or came out of order")


if __name__ == "__main__":
    main()
