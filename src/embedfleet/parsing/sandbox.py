"""Parses files in child processes, so that no file can take the parent's memory, time or life."""

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
    """The text passed `max_output_chars`."""


class ParserSandbox:
    """Up to `workers` parser processes, started when needed and reused from file to file.

    A process that crashed, overran a limit or was interrupted is killed, and the next file gets a fresh
    one. Every error is a ParseError of one line: the file, what is wrong, what to do. Memory in the
    parent is about twice the text.
    """

    def __init__(self, settings: ParsingSettings, *, workers: int = 1) -> None:
        self._settings = settings
        self._free = asyncio.Semaphore(workers)
        self._idle: list[ParserProcess] = []

    async def parse(self, path: Path) -> ParsedDocument:
        """The file's text. The name's suffix says how it is read; an unknown one is found out.

        Raises ParseError. Only regular files are read; a path never blocks.
        """
        absolute = await asyncio.to_thread(path.absolute)  # asks the system for the current folder
        return await self._parse(Request(format_of(path), os.fsencode(absolute), None), str(path))

    async def parse_bytes(self, data: bytes, *, name: str) -> ParsedDocument:
        """As `parse`, for a file's content; `name` is the file's name, for its suffix and for messages."""
        return await self._parse(Request(format_of(Path(name)), None, data), name)

    async def close(self) -> None:
        """Kill the idle processes. Cancel running calls before: each kills its own."""
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
        """Of an idle process, unless it has died meanwhile; else of a new one."""
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
        """The process's answer, or why it could not give one; None if it never took the request.

        The process is idle or dead afterwards.
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
        except BaseException:  # cancelled in the middle of an answer: the next would begin with its rest
            await process.kill()
            raise
        self._idle.append(process)
        return answer

    async def _receive(self, process: ParserProcess) -> ParsedDocument | Refused:
        text = ""
        while isinstance(reply := await process.receive(), Text):
            # CPython lets a local string grow in place; pieces to be joined would hold a document twice.
            text += reply.text
            if len(text) > self._settings.max_output_chars:
                raise _TooMuchText
        match reply:
            case Done():
                return ParsedDocument(text, reply.content_type, reply.title, reply.warnings)
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
    """What a parser's exit status says about the file it was reading, and what to do."""
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
