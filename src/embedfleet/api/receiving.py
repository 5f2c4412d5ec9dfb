"""Takes uploaded files to the disk as they come in, so that their size costs no memory."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from embedfleet.api.multipart import FormReader, texts_of
from embedfleet.errors import ConfigError, QuotaExceeded, StorageFull

# Pieces are written in blocks: a block costs a turn of a thread.
_BLOCK_BYTES = 1 << 20
# A process that is killed leaves its files. No upload takes a day.
_LEFT_OVER_SECONDS = 24 * 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """An uploaded file on the disk, until the block that received it ends.

    `name` is what the client calls it, if it says that; `fields` are those of the form around it. `digest` is
    the SHA-256 of its bytes.
    """

    path: Path
    name: str | None
    fields: Mapping[str, str]
    size: int
    digest: bytes


class UploadFolder:
    """Where files are while they are read. A file in it is of one request, and readable by this user only."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._prepared = False

    async def ready(self) -> Path:
        """Return the folder, which exists. Raises ConfigError."""
        await asyncio.to_thread(self._prepare)
        return self._path

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[ReceivedFile]:
        """Take the body of the request, which is a file or a form with one. The file is gone after the block.

        Raises InvalidRequest for a broken form, QuotaExceeded for a file that is too large, StorageFull, and
        ConfigError if the folder cannot be used.
        """
        await self.ready()
        file = await asyncio.to_thread(self._new_file)
        try:
            yield await _received(request, _Intake(file, self._max_bytes))
        except ClientDisconnect as exc:
            raise HTTPException(400, "the client went away before the end of the file") from exc
        except OSError as exc:
            if exc.errno in _FULL:
                raise StorageFull(f"{self._path}: the disk is full: free some space") from exc
            raise
        finally:
            await asyncio.to_thread(_remove, file)

    def _new_file(self) -> IO[bytes]:
        return NamedTemporaryFile(dir=self._path, prefix="upload-", delete=False)

    def _prepare(self) -> None:
        if self._prepared:
            return
        try:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._remove_left_over()
            self._prepared = True
        except OSError as exc:
            raise ConfigError(
                f"data_dir: files cannot be taken to {self._path} ({exc.strerror or exc}): choose another "
                "directory, or mend its permissions"
            ) from exc

    def _remove_left_over(self) -> None:
        """Remove the files that killed processes left. Those of running ones are younger."""
        oldest = time.time() - _LEFT_OVER_SECONDS
        for file in self._path.glob("upload-*"):
            with suppress(OSError):  # another process removes it at the same time
                if file.stat().st_mtime < oldest:
                    file.unlink()


class _Intake:
    """Counts and hashes what comes in, and writes it in blocks on another thread."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self.size = 0
        self.path = Path(file.name)
        self._file = file
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes. Raises QuotaExceeded before there are too many on the disk."""
        self.size += len(data)
        if self.size > self._max_bytes:
            raise QuotaExceeded(
                f"file: has more than {self._max_bytes} bytes: split it, or raise `parsing.max_file_bytes`",
                limit=self._max_bytes,
                used=self.size,
                retry_after=None,
            )
        self._waiting.append(data)
        self._waiting_bytes += len(data)

    async def write_block(self) -> None:
        """Write what waits, if it fills a block."""
        if self._waiting_bytes >= _BLOCK_BYTES:
            await self.write()

    async def write(self) -> None:
        """Write all that waits."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0

        def write() -> None:
            for data in waiting:
                self._digest.update(data)
                self._file.write(data)
            self._file.flush()

        await asyncio.to_thread(write)

    @property
    def digest(self) -> bytes:
        return self._digest.digest()


async def _received(request: Request, intake: _Intake) -> ReceivedFile:
    content_type = request.headers.get("content-type", "")
    is_form = content_type.partition(";")[0].strip().lower() == "multipart/form-data"
    form = FormReader(content_type, intake.add) if is_form else None
    async for data in request.stream():
        if form is None:
            intake.add(data)
        else:
            form.feed(data)
        await intake.write_block()
    if form is not None:
        form.end()
    await intake.write()
    fields = {} if form is None else texts_of(form.fields)
    name = None if form is None else form.file_name
    return ReceivedFile(intake.path, name, fields, intake.size, intake.digest)


def _remove(file: IO[bytes]) -> None:
    file.close()
    with suppress(FileNotFoundError):
        os.unlink(file.name)
