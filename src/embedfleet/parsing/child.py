"""The parser process: reads requests from stdin and answers on stdout until stdin ends.

`ParserSandbox` starts it as `python -P -m embedfleet.parsing.child MEMORY_MB CPU_SECONDS MAX_FILE_BYTES OCR`;
OCR is 1 if scanned pages are to be read, otherwise 0.
"""

from __future__ import annotations

import io
import os
import signal
import stat
import sys
import time
from typing import BinaryIO

from embedfleet.errors import EmptyDocument, ParseError
from embedfleet.parsing.confinement import allow_cpu_seconds, confine
from embedfleet.parsing.draft import BLOCK_BYTES, Draft
from embedfleet.parsing.extract import extract
from embedfleet.parsing.frames import (
    EXIT_OUT_OF_MEMORY,
    TEXT_CHARS,
    Accepted,
    Done,
    Refused,
    Reply,
    Request,
    Text,
    encode,
    read,
)
from embedfleet.parsing.source_hash import source_hash_of

_ACCEPTED = encode(Accepted())
_OCR_SHARE = 0.7  # of the CPU time of a file: the rest is for a page that was begun, and for the text


def main(arguments: list[str]) -> int:
    memory_mb, cpu_seconds, max_file_bytes, ocr = map(int, arguments)
    # Ctrl-C signals every process of the terminal; but the parent decides whether the work ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # The replies have the only copy of stdout: nothing that a library prints gets among them.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    confine(memory_mb=memory_mb)
    try:
        while (request := read(sys.stdin.buffer)) is not None:
            assert isinstance(request, Request)
            replies.write(_ACCEPTED)
            # Now, as the parent must know which file the process was at when it died.
            replies.flush()
            allow_cpu_seconds(cpu_seconds)
            ocr_until = time.process_time() + _OCR_SHARE * cpu_seconds if ocr else None
            _answer(request, max_file_bytes, ocr_until, replies)
    except MemoryError:
        return EXIT_OUT_OF_MEMORY
    return 0


def _answer(request: Request, max_file_bytes: int, ocr_until: float | None, replies: BinaryIO) -> None:
    """Read one file; write its text, or the reason why it cannot be read.

    The end of the answer stays in the buffer if another request follows at once.
    """
    outgoing = _Outgoing(replies)
    try:
        with _open(request) as stream:
            size = _refuse_large(stream, max_file_bytes)
            ocr = ocr_until is not None
            source, source_hash = _at_once(stream, ocr=ocr) if size <= BLOCK_BYTES else (stream, None)
            draft = Draft(outgoing.add, ocr_until=ocr_until)
            content_type = extract(source, request.form, draft)
    except ParseError as exc:
        outgoing.finish(Refused(str(exc), empty=isinstance(exc, EmptyDocument)))
    except OSError as exc:
        outgoing.finish(Refused(f"cannot be read ({exc.strerror or exc}): check path and permissions"))
    else:
        outgoing.flush()
        outgoing.finish(Done.of(content_type, draft, source_hash))
    if not request.more:
        replies.flush()


def _at_once(stream: BinaryIO, *, ocr: bool) -> tuple[BinaryIO, str]:
    """The content of a small file and its hash: of exactly the bytes that are parsed, whatever happens to
    the file at the same time."""
    # With a limit, as the file may have grown since its size was read.
    content = io.BytesIO(stream.read(BLOCK_BYTES))
    source_hash = source_hash_of(content, ocr=ocr)
    content.seek(0)
    return content, source_hash


class _Outgoing:
    """Joins pieces of text into messages of about `TEXT_CHARS` characters."""

    def __init__(self, replies: BinaryIO) -> None:
        self._replies = replies
        self._pieces: list[str] = []
        self._chars = 0

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._chars += len(piece)
        if self._chars >= TEXT_CHARS:
            self.flush()

    def flush(self) -> None:
        text = "".join(self._pieces)
        for start in range(0, len(text), TEXT_CHARS):
            self._replies.write(encode(Text(text[start : start + TEXT_CHARS])))
        self._pieces.clear()
        self._chars = 0

    def finish(self, reply: Reply) -> None:
        self._replies.write(encode(reply))


def _open(request: Request) -> BinaryIO:
    """The request's bytes as a stream. Never blocks: refuses FIFOs and devices instead of reading them."""
    if request.data is not None:
        return io.BytesIO(request.data)
    assert request.path is not None
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        stream = os.fdopen(os.open(request.path, flags), "rb")
    except FileNotFoundError as exc:
        raise ParseError("does not exist (any more): check the path") from exc
    except IsADirectoryError as exc:
        raise ParseError("is a folder: name the files in it") from exc
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise ParseError("is not a regular file (a device, pipe or socket): copy its content to a file")
    return stream


def _refuse_large(stream: BinaryIO, max_file_bytes: int) -> int:
    """The size of the file in bytes. Raises ParseError if it is over the limit."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if size > max_file_bytes:
        raise ParseError(
            f"is {size} bytes, over the limit of {max_file_bytes}: split it or raise `parsing.max_file_bytes`"
        )
    return size


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
