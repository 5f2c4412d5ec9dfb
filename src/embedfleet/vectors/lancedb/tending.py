"""The upkeep of a table of Lance: files are merged, indexes built, and what no version has is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedfleet.vectors.lancedb.errors import is_conflict
from embedfleet.vectors.lancedb.upkeep import (
    IndexWork,
    TableFile,
    TableState,
    mergeable_files,
    partitions,
)
from embedfleet.vectors.lancedb.versions import VECTOR_INDEX, TableVersions

if TYPE_CHECKING:
    from lance import LanceDataset

# A version that is older than this is removed: all but the latest. Lance takes 0 for no limit.
_NOW = timedelta(microseconds=1)
# Rows that one merge of files reads at most: of 384 dimensions in about two seconds.
_ROWS_OF_A_MERGE = 131_072
_SCALAR_INDEXES = (("collection", "BITMAP", "collections"), ("key", "BTREE", "keys"))


class TendedTable(TableVersions):
    """A table and its upkeep. One thread of this process writes, and one may build an index beside it."""

    _last_being_indexed = -1

    def forget_deleted(self) -> None:
        """Write files that have deleted rows again, without these, and remove the versions that had them."""

        def forget(version: LanceDataset) -> None:
            clean = [one.fragment_id for one in version.get_fragments() if not one.num_deletions]
            self._write_files_again(
                version,
                target_rows_per_fragment=self.limits.rows_of_a_file,
                materialize_deletions_threshold=0.0,
                excluded_fragment_ids=clean,
            )

        while (version := self.latest()) is not None and _has_deleted_rows(version):
            self._write(forget)
        self._write(lambda version: version.cleanup_old_versions(_NOW, error_if_tagged_old_versions=False))

    def state(self) -> TableState | None:
        """Return what decides the upkeep of the table; None if there is no table."""
        version = self.latest()
        return None if version is None else self._state(version)

    def mergeable_files(self, state: TableState) -> list[int]:
        """Return the numbers of the files to merge now, but none that an index is being built of."""
        free = [file for file in state.files if file.number > self._last_being_indexed]
        return mergeable_files(replace(state, files=free), self.limits)

    def merge_files(self) -> bool:
        """Merge neighbouring small files, some seconds' worth of them. Return whether any were merged."""
        state = self.state()
        if state is None or not self.mergeable_files(state):
            return False

        def merge(version: LanceDataset) -> None:
            chosen = set(self.mergeable_files(self._state(version)))
            others = [one.fragment_id for one in version.get_fragments() if one.fragment_id not in chosen]
            self._write_files_again(
                version,
                target_rows_per_fragment=self.limits.rows_of_a_file,
                excluded_fragment_ids=others,
                max_source_rows=_ROWS_OF_A_MERGE,
            )

        try:
            self._write_once(merge)
        except Exception as exc:
            if not is_conflict(exc):
                raise
            return False  # others have changed the same files: later
        return True

    def index(self, work: IndexWork) -> None:
        """Build the indexes, or add to them what they do not have. Others may write at the same time."""

        def index(version: LanceDataset) -> None:
            # Files are numbered in the order in which they are written.
            self._last_being_indexed = max((one.fragment_id for one in version.get_fragments()), default=-1)
            if work is IndexWork.EXTEND:
                version.optimize.optimize_indices()
                return
            for column, kind, name in _SCALAR_INDEXES:
                self._open().create_scalar_index(column, kind, name=name, replace=True)
            # The one of vectors comes last: what fails before it leaves the work to be done.
            number = partitions(version.count_rows(), self.limits)
            self._open().create_index(
                "vector", "IVF_SQ", name=VECTOR_INDEX, metric="cosine", num_partitions=number, replace=True
            )

        try:
            self._write_once(index)
        except Exception as exc:
            if not is_conflict(exc):
                raise
        finally:
            self._last_being_indexed = -1

    def remove_old_versions(self, older_than: timedelta) -> None:
        """Remove the versions of the table that are older, with the files that no later version has."""
        self._write(
            lambda version: version.cleanup_old_versions(older_than, error_if_tagged_old_versions=False)
        )

    def remove_leftovers(self) -> None:
        """Remove the files that a killed process has written and not committed. None may be writing now."""
        self._write(
            lambda version: version.cleanup_old_versions(
                _NOW, delete_unverified=True, error_if_tagged_old_versions=False
            )
        )

    # --- within ---

    def _state(self, version: LanceDataset) -> TableState:
        files_of = self._indexed_files(version)
        files = [
            TableFile(
                one.fragment_id,
                one.count_rows(),
                frozenset(name for name, numbers in files_of.items() if one.fragment_id in numbers),
            )
            for one in version.get_fragments()
        ]
        whole = all(name in files_of for _, _, name in _SCALAR_INDEXES)
        held = self._partitions(version) if whole else None
        return TableState(files, None if held is None else held * self.limits.partition_rows)

    def _write_files_again(self, version: LanceDataset, **options: Any) -> None:
        """Compact the files that the options choose. A commit that is lost leaves nothing behind.

        Lance itself leaves the new files of a lost commit for a week, and one of them may have a text that
        was deleted by the commit that won.
        """
        from lance.optimize import Compaction, CompactionOptions

        plan = Compaction.plan(version, CompactionOptions(**options))
        written = [task.execute(version) for task in plan.tasks]
        try:
            Compaction.commit(version, written)
        except Exception as exc:
            if is_conflict(exc):
                self._remove(
                    [
                        file.path
                        for one in written
                        for fragment in one.new_fragments
                        for file in fragment.files
                    ]
                )
            raise

    def _remove(self, names: Sequence[str]) -> None:
        """Remove files that were never committed. In an object store they stay: Lance has no call for it."""
        used = {file.path for one in self._open().get_fragments() for file in one.data_files()}
        if "://" not in self._uri:
            for name in set(names) - used:
                Path(self._uri, "data", name).unlink(missing_ok=True)


def _has_deleted_rows(version: LanceDataset) -> bool:
    return any(one.num_deletions for one in version.get_fragments())
