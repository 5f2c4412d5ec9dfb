"""A parser process from the view of its parent: starts it, sends requests, kills it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from embedfleet import child_environment
from embedfleet.framing import LENGTH
from embedfleet.parsing import frames
from embedfleet.parsing.frames import MAX_REPLY_BYTES, Accepted, Done, Refused, Reply, Request, Text
from embedfleet.settings import ParsingSettings

# Environment variables that Python and the loader need to start. The others may hold passwords and keys.
_INHERITED_VARIABLES = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TMPDIR",
)
# By default, glibc reserves 64 MB of address space for each thread, which counts towards the memory limit.
_ADDED_VARIABLES = {"MALLOC_ARENA_MAX": "2"}
_EXIT_SECONDS = 5.0  # how long a process may take to end after it has closed its pipe


class ProcessLost(Exception):
    """The process has ended before its answer was complete."""


class GarbledReply(Exception):
    """The process has sent something that is not a reply."""


@dataclass(frozen=True, slots=True)
class ParserProcess:
    """A running child process. After an exception of one of its methods, only `kill` may be called."""

    process: Process

    @classmethod
    async def start(cls, settings: ParsingSettings) -> ParserProcess:
        """Start a child in a session of its own, so that signals of the terminal do not reach it.

        -P keeps the current folder off its import path, as the folder may contain files of other people.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "embedfleet.parsing.child",
            str(settings.memory_mb),
            str(settings.cpu_seconds),
            str(settings.max_file_bytes),
            str(int(settings.ocr)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=child_environment.of_these(_INHERITED_VARIABLES) | _ADDED_VARIABLES,
            start_new_session=True,
        )
        return cls(process)

    def send(self, requests: Iterable[Request]) -> None:
        """Send requests, in one piece. If the process has ended, `accepted` says so.

        This does not wait until the pipe has taken them all. The process may have to write answers first,
        and would wait for a reader.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(map(frames.encode, requests)))

    async def accepted(self) -> bool:
        """Wait until the process takes its next request. False if it ended before. Raises GarbledReply."""
        try:
            return isinstance(await self.receive(), Accepted)
        except ProcessLost:
            return False

    async def receive(self) -> Reply:
        """Wait for the next reply. Raises ProcessLost or GarbledReply."""
        assert self.process.stdout is not None
        try:
            (length,) = LENGTH.unpack(await self.process.stdout.readexactly(LENGTH.size))
            if length > MAX_REPLY_BYTES:
                raise GarbledReply
            reply = frames.decode(await self.process.stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            raise ProcessLost from exc
        except (ValueError, TypeError) as exc:
            raise GarbledReply from exc
        if not isinstance(reply, Accepted | Text | Done | Refused):
            raise GarbledReply
        return reply

    async def exit_status(self) -> int:
        """The exit status of a lost process; it is killed if it has closed its pipe but does not end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_SECONDS):
                await self.process.wait()
        return await self.kill()

    async def kill(self) -> int:
        """Kill the process and wait until its pipes are closed; returns its exit status."""
        assert self.process.stdin is not None
        if self.process.returncode is None:
            self.process.kill()
        if not self.process.stdin.is_closing():
            self.process.stdin.transport.abort()  # drops the rest of a request that is only partly sent
        await self.process.communicate()  # reads stdout to its end: otherwise its transport may stay open
        return await self.process.wait()
