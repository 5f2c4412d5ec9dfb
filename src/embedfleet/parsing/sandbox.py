"""Parses files in child processes, so that no file can crash the parent or use up its memory or time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from embedfleet.errors import ParseError
from embedfleet.parsing.formats import ParsedDocument, format_of
from embedfleet.parsing.frames import EXIT_OUT_OF_MEMORY, Accepted, Done, Refused, Request, Text
from embedfleet.parsing.process import GarbledReply, ParserProcess, ProcessLost
from embedfleet.settings import ParsingSettings


class _TooMuchText(Exception):
    """The text has more than `max_output_chars` characters."""


class ParserSandbox:
    """Runs up to `workers` parser processes. Starts them when needed and uses them for many files.

    A process that has crashed, exceeded a limit or was interrupted is killed, and the next file gets a new
    one. Every error is a ParseError with one line: the file, what is wrong, and what to do. The parent needs
    about twice as much memory as the text.
    """

    def __init__(self, settings: ParsingSettings, *, workers: int = 1) -> None:
        self._settings = settings
        self._free = asyncio.Semaphore(workers)
        self._idle: list[ParserProcess] = []

    async def parse(self, path: Path) -> ParsedDocument:
        """Parse a file. The suffix of its name gives the format; if it is unknown, the first bytes do.

        Raises ParseError. Only regular files are read, so no path (a FIFO, a device) blocks.
        """
        absolute = await asyncio.to_thread(path.absolute)  # reads the current folder, which may block
        return await self._parse(Request(format_of(path), os.fsencode(absolute), None), str(path))

    async def parse_bytes(self, data: bytes, *, name: str) -> ParsedDocument:
        """Like `parse`, with the content of a file. `name` gives the suffix, and appears in messages."""
        return await self._parse(Request(format_of(Path(name)), None, data), name)

    async def close(self) -> None:
        """Kill the idle processes. Cancel running calls first: each of them kills its own process."""
        while self._idle:
            await self._idle.pop().kill()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _parse(self, request: Request, name: str) -> ParsedDocument:
        async with self._free:
            answer = await self._answer(request)
        if isinstance(answer, Refused):
            raise ParseError(f"{name if name.isprintable() else ascii(name)}: {answer.reason}")
        return answer

    async def _answer(self, request: Request) -> ParsedDocument | Refused:
        """The answer of an idle process; of a new process if all idle ones have died."""
        while self._idle:
            answer = await self._ask(self._idle.pop(), request)
            if answer is not None:
                return answer
        answer = await self._ask(await ParserProcess.start(self._settings), request)
        return answer or Refused(
            "the parser does not start: raise `parsing.memory_mb`, "
            "or see what `python -m embedfleet.parsing.child 2048 60 1000000` says"
        )

    async def _ask(self, process: ParserProcess, request: Request) -> ParsedDocument | Refused | None:
        """The process's answer, or the reason why it gave none; None if it has died before the request.

        Afterwards the process is idle or dead.
        """
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                if not await process.send(request):
                    await process.kill()
                    return None
                answer = await self._receive(process)
        except ProcessLost:
            return Refused(explain_exit(await process.exit_status(), self._settings))
        except (TimeoutError, GarbledReply, _TooMuchText) as exc:
            await process.kill()
            return Refused(self._explain(exc))
        except BaseException:  # cancelled: the rest of this answer would come before the next one
            await process.kill()
            raise
        self._idle.append(process)
        return answer

    async def _receive(self, process: ParserProcess) -> ParsedDocument | Refused:
        text = ""
        while isinstance(reply := await process.receive(), Text):
            # CPython extends a local string in place. Joining a list of pieces would need twice the memory.
            text += reply.text
            if len(text) > self._settings.max_output_chars:
                raise _TooMuchText
        match reply:
            case Done():
                return ParsedDocument(text, reply.content_type, reply.warnings)
            case Refused():
                return reply
            case Accepted():
                raise GarbledReply

    def _explain(self, problem: Exception) -> str:
        limits = self._settings
        match problem:
            case TimeoutError():
                return (
                    f"took longer than {limits.timeout_seconds:g} s: leave it out "
                    "or raise `parsing.timeout_seconds`"
                )
            case _TooMuchText():
                return (
                    f"holds more than {limits.max_output_chars} characters: split it "
                    "or raise `parsing.max_output_chars`"
                )
            case _:
                return "the parser answered nonsense, the file may be hostile: leave it out"


def explain_exit(status: int, limits: ParsingSettings) -> str:
    """Explains a parser's exit status in words: what is wrong with the file, and what to do."""
    memory = f"more than {limits.memory_mb} MB of memory: leave it out or raise `parsing.memory_mb`"
    if status == EXIT_OUT_OF_MEMORY:
        return f"needs {memory}"
    if status == -signal.SIGKILL:
        return "the parser was killed, probably for lack of memory on this machine: free some and try again"
    if sys.platform != "win32" and status == -signal.SIGXCPU:
        return (
            f"took more than {limits.cpu_seconds} s of CPU time: leave it out or raise `parsing.cpu_seconds`"
        )
    return f"the parser failed on it (exit status {status}): it is broken, or needs {memory}"
