"""Which spaces a store has tables of: the rows of a small table. Its methods block.

The name of a table does not tell its space, and an object store cannot be listed by Lance. Upkeep must find
all tables, also those that its own process has not used.
"""

from __future__ import annotations

from embedfleet.vectors.lancedb.errors import is_conflict, is_missing


class LanceSpaces:
    """The spaces of the store whose tables are beside this one."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._known: set[str] = set()

    def read(self) -> set[str]:
        """Return the spaces that have been added, by whatever process."""
        import lance

        try:
            rows = lance.dataset(self._uri).to_table(columns=["space"])
        except Exception as exc:
            if not is_missing(exc):
                raise
            return set()
        self._known = set(rows["space"].to_pylist())
        return self._known

    def add(self, space: str) -> None:
        """Add a space, unless it is there."""
        import lance
        import pyarrow as pa

        if space in self._known or space in self.read():
            return
        row = pa.table({"space": [space]})
        try:
            lance.write_dataset(row, self._uri, mode="create")
        except Exception as exc:
            if "already exists" not in str(exc) and not is_conflict(exc):
                raise
            there = lance.dataset(self._uri)
            there.merge_insert("space").when_not_matched_insert_all().conflict_retries(20).execute(row)
        self._known.add(space)
