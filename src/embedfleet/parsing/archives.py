"""Opens documents that are ZIP archives, and refuses dangerous ones."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from embedfleet.errors import ParseError

_MAX_UNPACKED_BYTES = 1 << 30
_MAX_PACKING = 200  # text is packed up to about 50:1, an archive bomb 1000:1
_SMALL_BYTES = 1 << 26  # a document that unpacks to less does no harm, however well it is packed


@contextlib.contextmanager
def open_archive(stream: BinaryIO, *, kind: str, required: str | None = None) -> Iterator[zipfile.ZipFile]:
    """Open an archive that is not encrypted, has the member `required` if that is given, and does not unpack
    to too many bytes.

    Raises ParseError otherwise, and if a member turns out to be broken inside of the `with` block. Members
    are read by name, never unpacked to files, and never beyond the size that the archive states.
    """
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            _check(archive.infolist(), required, kind)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as exc:
        raise ParseError(f"is broken or not {kind} ({exc}): fetch it again or leave it out") from exc


def _check(entries: list[zipfile.ZipInfo], required: str | None, kind: str) -> None:
    if required is not None and required not in {entry.filename for entry in entries}:
        raise ParseError(f"is not {kind} ({required} is not in it): rename it or leave it out")
    if any(entry.flag_bits & 1 for entry in entries):
        raise ParseError("is encrypted: remove the password and try again")
    unpacked = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if unpacked > _MAX_UNPACKED_BYTES or unpacked > max(_SMALL_BYTES, packed * _MAX_PACKING):
        raise ParseError(f"unpacks from {packed} to {unpacked} bytes, like an archive bomb: leave it out")
