"""A parser process as its parent sees it: start, talk, kill."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass

from embedfleet.framing import LENGTH
from embedfleet.parsing import frames
from embedfleet.parsing.frames import MAX_REPLY_BYTES, Accepted, Done, Refused, Reply, Request, Text
from embedfleet.settings import ParsingSettings

# What Python and the loader need to start. Nothing else of the environment: it holds passwords and keys.
_PASSED_ON = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TMPDIR",
)
# With glibc's default each thread reserves 64 MB of address space, which the memory limit counts.
_ADDED = {"MALLOC_ARENA_MAX": "2"}
_EXIT_SECONDS = 5.0


class ProcessLost(Exception):
    """The process ended before its answer was complete."""


class GarbledReply(Exception):
    """The process sent something that is no reply."""


@dataclass(frozen=True, slots=True)
class ParserProcess:
    """A running child. After any exception of its methods it can only be killed."""

    process: Process

    @classmethod
    async def start(cls, settings: ParsingSettings) -> ParserProcess:
        """Start a child in a session of its own, so that signals of the terminal do not reach it.

        -P keeps the current folder off its import path: it may be full of strangers' files.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "embedfleet.parsing.child",
            str(settings.memory_mb),
            str(settings.cpu_seconds),
            str(settings.max_file_bytes),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _ADDED,
            start_new_session=True,
        )
        return cls(process)

    async def send(self, request: Request) -> bool:
        """Hand a file over. False: the process had ended before it took it. Raises GarbledReply."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(frames.encode(request))
            await self.process.stdin.drain()
            return isinstance(await self.receive(), Accepted)
        except (ConnectionError, ProcessLost):
            return False

    async def receive(self) -> Reply:
        """The next reply. Raises ProcessLost, GarbledReply."""
        assert self.process.stdout is not None
        try:
            (length,) = LENGTH.unpack(await self.process.stdout.readexactly(LENGTH.size))
            if length > MAX_REPLY_BYTES:
                raise GarbledReply
            reply = frames.decode(await self.process.stdout.readexactly(length))
        except asyncio.IncompleteReadError as exc:
            raise ProcessLost from exc
        except (ValueError, TypeError) as exc:
            raise GarbledReply from exc
        if not isinstance(reply, Accepted | Text | Done | Refused):
            raise GarbledReply
        return reply

    async def exit_status(self) -> int:
        """How a lost process ended. One that closed its pipe but does not end is killed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_SECONDS):
                await self.process.wait()
        return await self.kill()

    async def kill(self) -> int:
        """End the process at once and wait until nothing of it is left; returns its exit status."""
        assert self.process.stdin is not None
        if self.process.returncode is None:
            self.process.kill()
        if not self.process.stdin.is_closing():
            self.process.stdin.transport.abort()  # a request half sent is of no use any more
        await self.process.communicate()  # reads stdout to its end, else its transport may stay open
        return await self.process.wait()
