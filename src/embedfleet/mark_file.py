"""The mark of a part that is a directory: a small file in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from embedfleet.whole_file import written_whole

_NAME = "embedfleet-system.json"


class MarkFile:
    """Keeps a mark in a directory. The caller owns the directory, so no other process writes it.

    Both methods raise OSError.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / _NAME

    async def mark(self) -> str | None:
        """Return the mark; None if there is none, or no directory."""
        return await asyncio.to_thread(self._read)

    async def claim_mark(self, mark: str, *, replacing: str | None = None) -> str:
        """Write the mark if there is none, or `replacing` is there. Return the mark that is there now.

        The directory must exist.
        """
        return await asyncio.to_thread(self._claim, mark, replacing)

    def _read(self) -> str | None:
        try:
            return self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _claim(self, mark: str, replacing: str | None) -> str:
        held = self._read()
        if held is not None and held != replacing:
            return held
        with written_whole(self._file) as draft:
            draft.write_text(mark, encoding="utf-8")
        return mark
