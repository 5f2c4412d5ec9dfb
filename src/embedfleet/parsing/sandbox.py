"""Parses files in child processes, so that no file can crash the parent or use up its memory or time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from embedfleet.errors import ConfigError, EmptyDocument, ParseError
from embedfleet.parsing.formats import ParsedDocument, format_of
from embedfleet.parsing.frames import EXIT_OUT_OF_MEMORY, Accepted, Done, Refused, Request, Text
from embedfleet.parsing.process import GarbledReply, ParserProcess, ProcessLost
from embedfleet.settings import ParsingSettings

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class _TextLimit:
    """The most characters that a file may give, and what to do about more."""

    most_chars: int
    remedy: str


class _TooMuchText(Exception):
    """The text is over the limit."""

    def __init__(self, limit: _TextLimit) -> None:
        super().__init__(f"holds more than {limit.most_chars} characters: {limit.remedy}")


class _LifeLost(Exception):
    """A file has cost the process its life; `reason` says how."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_NOT_STARTED = Refused(
    "the parser does not start: raise `parsing.memory_mb`, "
    "or see what `python -m embedfleet.parsing.child 2048 60 1000000 0` says"
)


class ParserSandbox:
    """Runs up to `workers` parser processes. Starts them when needed and uses them for many files.

    A process that has crashed, exceeded a limit or was interrupted is killed, and the next file gets a new
    one. Every error is a ParseError with one line: the file, what is wrong, and what to do. The parent needs
    about twice as much memory as the text.

    The constructor raises ConfigError if OCR is wanted and not installed.
    """

    def __init__(self, settings: ParsingSettings, *, workers: int = 1) -> None:
        if settings.ocr and find_spec("rapidocr") is None:
            raise ConfigError("parsing.ocr: OCR is not installed: install the extra `ocr` of embedfleet")
        self._settings = settings
        self._limit = _TextLimit(settings.max_output_chars, "split it or raise `parsing.max_output_chars`")
        self._free = asyncio.Semaphore(workers)
        self._idle: list[ParserProcess] = []

    @property
    def ocr(self) -> bool:
        """Whether scanned pages are read by OCR."""
        return self._settings.ocr

    async def parse(
        self, path: StrPath, *, name: str | None = None, most_chars: int | None = None
    ) -> ParsedDocument:
        """Parse a file. The suffix of its name gives the format; if it is unknown, the first bytes do.

        A `name` counts in place of the path, and appears in messages. `most_chars` is the most text that the
        file may give, if that is less than `parsing.max_output_chars`. Raises ParseError. Only regular files
        are read, so no path (a FIFO, a device) blocks.
        """
        limit = self._limit if most_chars is None else self._limit_of(most_chars)
        async with aclosing(self._parse_named([(path, name or os.fspath(path))], limit)) as answers:
            return _or_raise(await anext(answers))

    async def parse_many(self, paths: Sequence[StrPath]) -> AsyncGenerator[ParsedDocument | ParseError, None]:
        """Parse files one after the other. Yields what `parse` returns or raises for each, in order.

        The process gets all paths at once, so a small file costs no round trip. All limits still hold for
        each file alone, and a file that costs the process its life takes no other file with it. Close the
        generator (`aclosing`) if it is left before its end.
        """
        named = [(path, os.fspath(path)) for path in paths]
        async with aclosing(self._parse_named(named, self._limit)) as answers:
            async for answer in answers:
                yield answer

    async def _parse_named(
        self, named: Sequence[tuple[StrPath, str]], limit: _TextLimit
    ) -> AsyncGenerator[ParsedDocument | ParseError, None]:
        """Parse files, each with the name that gives its format and stands in messages."""
        # Reading the current folder may block.
        absolute = all(os.path.isabs(path) for path, _ in named)
        folder = "" if absolute else await asyncio.to_thread(os.getcwd)
        requests = [
            Request(format_of(name), os.fsencode(os.path.join(folder, path)), None, more=number < len(named))
            for number, (path, name) in enumerate(named, 1)
        ]
        async with self._free, aclosing(self._answers(requests, limit)) as answers:
            for _, name in named:
                yield _or_error(await anext(answers), name)

    async def parse_bytes(self, data: bytes, *, name: str) -> ParsedDocument:
        """Like `parse`, with the content of a file. `name` gives the suffix, and appears in messages."""
        request = Request(format_of(name), None, data)
        async with self._free, aclosing(self._answers([request], self._limit)) as answers:
            return _or_raise(_or_error(await anext(answers), name))

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

    def _limit_of(self, most_chars: int) -> _TextLimit:
        if most_chars >= self._limit.most_chars:
            return self._limit
        return _TextLimit(most_chars, "split it")

    async def _answers(
        self, requests: Sequence[Request], limit: _TextLimit
    ) -> AsyncGenerator[ParsedDocument | Refused, None]:
        """Yield the answer to each request: of an idle process, or of new ones where none is idle."""
        answered = 0
        while answered < len(requests):
            is_new = not self._idle
            process = await ParserProcess.start(self._settings) if is_new else self._idle.pop()
            before = answered
            async with aclosing(self._ask(process, requests[answered:], limit)) as answers:
                async for answer in answers:
                    answered += 1
                    yield answer
            if is_new and answered == before:
                answered += 1
                yield _NOT_STARTED

    async def _ask(
        self, process: ParserProcess, requests: Sequence[Request], limit: _TextLimit
    ) -> AsyncGenerator[ParsedDocument | Refused, None]:
        """Yield the process's answers, up to the file that costs it its life; none if it has died before.

        Afterwards the process is idle or dead.
        """
        missing = len(requests)
        process.send(requests)
        try:
            while missing and (answer := await self._next_answer(process, limit)) is not None:
                missing -= 1
                yield answer
        except _LifeLost as exc:
            yield Refused(exc.reason)
        finally:
            # Missing answers would be taken for those to the next requests.
            if missing:
                await process.kill()
            else:
                self._idle.append(process)

    async def _next_answer(
        self, process: ParserProcess, limit: _TextLimit
    ) -> ParsedDocument | Refused | None:
        """The answer to the next request; None if the process has died before it took the request.

        Raises _LifeLost, with the process dead, if the file is to blame.
        """
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                return await self._receive(process, limit) if await process.accepted() else None
        except ProcessLost as exc:
            raise _LifeLost(explain_exit(await process.exit_status(), self._settings)) from exc
        except (TimeoutError, GarbledReply, _TooMuchText) as exc:
            await process.kill()
            raise _LifeLost(self._explain(exc)) from exc

    async def _receive(self, process: ParserProcess, limit: _TextLimit) -> ParsedDocument | Refused:
        text = ""
        while isinstance(reply := await process.receive(), Text):
            # CPython extends a local string in place. Joining a list of pieces would need twice the memory.
            text += reply.text
            if len(text) > limit.most_chars:
                raise _TooMuchText(limit)
        match reply:
            case Done():
                return _checked(reply, text)
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
                return str(problem)
            case _:
                return "the parser answered nonsense, the file may be hostile: leave it out"


def _checked(reply: Done, text: str) -> ParsedDocument:
    try:
        return reply.document(text)
    except (TypeError, ValueError) as exc:
        raise GarbledReply from exc


def _or_error(answer: ParsedDocument | Refused, name: str) -> ParsedDocument | ParseError:
    if isinstance(answer, Refused):
        kind = EmptyDocument if answer.empty else ParseError
        return kind(f"{name if name.isprintable() else ascii(name)}: {answer.reason}")
    return answer


def _or_raise(answer: ParsedDocument | ParseError) -> ParsedDocument:
    if isinstance(answer, ParseError):
        raise answer
    return answer


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
