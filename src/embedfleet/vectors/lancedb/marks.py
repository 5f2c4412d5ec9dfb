"""The mark of a store of LanceDB: the row of a small table. Its methods block.

A commit is decided by the place itself, so of several processes one succeeds, on an object store too.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from embedfleet.vectors.lancedb.errors import is_conflict, is_missing

if TYPE_CHECKING:
    import pyarrow as pa

# The row has this name; a digest of the mark stands in statements in place of it.
_NAME = "mark"


class LanceMark:
    """The mark of the store whose tables are beside this one."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def read(self) -> str | None:
        """Return the mark; None if there is none."""
        import lance

        try:
            rows = lance.dataset(self._uri).to_table(columns=["mark"])
        except Exception as exc:
            if not is_missing(exc):
                raise
            return None
        return str(rows["mark"][0].as_py()) if len(rows) else None

    def claim(self, mark: str, *, replacing: str | None = None) -> str:
        """Leave `mark` if there is none, or if `replacing` is there. Return the mark that is there now."""
        import lance

        if self.read() is None:
            try:
                lance.write_dataset(_row(mark), self._uri, mode="create")
            except Exception as exc:
                if "already exists" not in str(exc) and not is_conflict(exc):
                    raise  # otherwise another process has just left its mark
        elif replacing is not None:
            there = lance.dataset(self._uri)
            condition = f"target.digest = '{_digest(replacing)}'"
            there.merge_insert("name").when_matched_update_all(condition).execute(_row(mark))
        held = self.read()
        assert held is not None, "a mark is never removed"
        return held


def _row(mark: str) -> pa.Table:
    import pyarrow as pa

    return pa.table({"name": [_NAME], "mark": [mark], "digest": [_digest(mark)]})


def _digest(mark: str) -> str:
    return hashlib.sha256(mark.encode()).hexdigest()
