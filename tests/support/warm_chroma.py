"""Embedded Chroma's process without its second of imports: forked from one that has done them.

It is the real child in all but its start: hundreds of tests open a store, and the imports would be half of
what they take. Tests of the start itself are given the real one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from subprocess import TimeoutExpired
from typing import IO

_context = multiprocessing.get_context("forkserver")
# What opening a directory imports. A name that is wrong here is not told of: it only takes longer.
_context.set_forkserver_preload(
    [
        "embedfleet.vectors.chroma.view_child",
        "chromadb.api.client",
        "chromadb.api.rust",
        "chromadb_rust_bindings",
    ]
)


class ForkedChild:
    """As much of `subprocess.Popen` as `ChromaProcess` asks for."""

    def __init__(self, module: str, *arguments: str) -> None:
        questions_end, questions = _context.Pipe(duplex=False)
        answers, answers_end = _context.Pipe(duplex=False)
        self._process = _context.Process(
            target=_serve, args=(questions_end, answers_end, module, arguments), daemon=True
        )
        self._process.start()
        questions_end.close()
        answers_end.close()
        self.stdin: IO[bytes] = _as_file(questions, "wb")
        self.stdout: IO[bytes] = _as_file(answers, "rb")

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired("chroma", timeout or 0)
        return self._process.exitcode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _as_file(connection: Connection, mode: str) -> IO[bytes]:
    with connection:
        return os.fdopen(os.dup(connection.fileno()), mode)


def _serve(questions: Connection, answers: Connection, module: str, arguments: Sequence[str]) -> None:
    os.setsid()
    os.dup2(questions.fileno(), 0)
    os.dup2(answers.fileno(), 1)
    questions.close()
    answers.close()
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")  # multiprocessing gives its children others
    import_module(module).main(*arguments, str(os.getppid()))
    os._exit(0)
