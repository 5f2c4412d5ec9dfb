"""A process that is told to stop before it works ends, and does not work first."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from embedfleet import bootstrap
from embedfleet.cli import serve_pool
from embedfleet.queue_schemas import Stage
from embedfleet.settings import load_settings
from support.hangs import HANG_SECONDS
from support.import_path import import_path

IN_A_CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
# What the command line imports first takes as long as the test needs.
SLOW_IMPORT = """
import time
print("importing", flush=True)
while True:
    time.sleep(0.05)
"""


def a_container_can_be_made() -> bool:
    if shutil.which("unshare") is None:
        return False
    ran = subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True, check=False, timeout=HANG_SECONDS)
    return ran.returncode == 0


def test_the_first_process_of_a_container_ends_at_a_sigterm_that_comes_during_the_imports(
    tmp_path: Path,
) -> None:
    """Without a handler, the kernel drops the signal, and the pod would work until it is killed."""
    if not a_container_can_be_made():
        pytest.skip("this machine lets us make no namespace of processes")
    (tmp_path / "typer.py").write_text(SLOW_IMPORT)
    path = os.pathsep.join([str(tmp_path), import_path(tmp_path)])
    with subprocess.Popen(
        [*IN_A_CONTAINER, sys.executable, "-m", "embedfleet", "serve-workers"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
    ) as outside:
        try:
            assert outside.stdout is not None
            assert outside.stdout.readline() == b"importing\n"
            [first] = psutil.Process(outside.pid).children()
            first.send_signal(signal.SIGTERM)
            assert outside.wait(HANG_SECONDS) == 128 + signal.SIGTERM
        finally:
            outside.kill()


async def test_a_worker_that_is_told_to_stop_while_it_opens_its_parts_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opening = asyncio.Event()

    @asynccontextmanager
    async def open_for_ever(*_: object, **__: object) -> AsyncIterator[None]:
        opening.set()
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(bootstrap, "open_pool_worker", open_for_ever)
    await stopped_while(opening)


async def test_it_ends_even_if_a_thread_that_loads_a_model_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    opening = asyncio.Event()

    @asynccontextmanager
    async def load_for_ever(*_: object, **__: object) -> AsyncIterator[None]:
        opening.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()
        yield

    class Ended(Exception):
        """The process has ended."""

    def end_process(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(bootstrap, "open_pool_worker", load_for_ever)
    monkeypatch.setattr("embedfleet.lifetime.end_process", end_process)
    monkeypatch.setattr(serve_pool, "_CANCEL_SECONDS", 0.01)
    with pytest.raises(Ended, match="0"):
        await stopped_while(opening)


async def stopped_while(opening: asyncio.Event) -> None:
    """Run a worker, and tell it to stop once it opens its parts."""
    settings = load_settings(environ={}, overrides={"monitoring": {"metrics_port": 0}})
    working = asyncio.create_task(serve_pool.serve_pool(settings, Stage.EMBEDDING))
    async with asyncio.timeout(HANG_SECONDS):
        await opening.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await working
