"""The mark of a part that is a directory: a small file in it."""

from __future__ import annotations

from pathlib import Path

from embedfleet.whole_file import written_whole

_NAME = "embedfleet-system.json"


class MarkFile:
    """Keeps a mark in a directory. The caller owns the directory, so no other process writes it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / _NAME

    def read(self) -> str | None:
        """Return the mark; None if there is none, or no directory. Raises OSError."""
        try:
            return self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def claim(self, mark: str, replacing: str | None) -> str:
        """Write the mark if there is none, or `replacing` is there. Returns the mark that is there now.

        The directory must exist. Raises OSError.
        """
        held = self.read()
        if held is not None and held != replacing:
            return held
        with written_whole(self._file) as draft:
            draft.write_text(mark, encoding="utf-8")
        return mark
