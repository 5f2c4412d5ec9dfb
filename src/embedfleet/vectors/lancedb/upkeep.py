"""Decides what upkeep a table needs: which files to merge, and when to build or extend its indexes. Pure.

Each write adds a file, and a search reads all rows that are in no index. So upkeep is put off until it is
worth its cost, and what is put off by then is the debt of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from math import ceil, sqrt


@dataclass(frozen=True, slots=True)
class UpkeepLimits:
    """When upkeep is worth its cost.

    `rows_of_a_file`: what a merged file holds: 65,536 rows of 384 dimensions are about 130 MB, and to forget
    one row takes as long as to write its file again. `surplus_files`: small files that may gather first.
    `index_from_rows`: fewer rows are compared one by one, which is exact. `partition_rows`: rows of one
    partition of the index. `searched_rows`: rows that a search compares at least.
    """

    rows_of_a_file: int = 65_536
    surplus_files: int = 32
    index_from_rows: int = 20_000
    partition_rows: int = 4_096
    searched_rows: int = 65_536


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of a table: its rows that are not deleted, and the indexes that have them."""

    number: int
    rows: int
    indexes: frozenset[str]


@dataclass(frozen=True, slots=True)
class TableState:
    """What decides the upkeep of a table, in the order of its files.

    `trained_rows`: rows that the table had about when its index on vectors was built; None without one.
    """

    files: Sequence[TableFile]
    trained_rows: int | None

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


class IndexWork(Enum):
    """What the indexes of a table need."""

    NONE = auto()
    BUILD = auto()
    EXTEND = auto()


# When a table has grown by this factor, its index is built again: it has too few partitions by then.
_GROWTH = 8
# The share of a table that may be in no index, if it is more than `index_from_rows`.
_UNINDEXED_SHARE = 1 / 20


def mergeable_files(state: TableState, limits: UpkeepLimits) -> list[int]:
    """Return the numbers of the files to merge; none as long as few would go.

    Lance merges neighbours only, and only those that are in the same indexes.
    """
    runs = [run for run in _runs(state, limits) if _surplus(run, limits)]
    too_many = sum(_surplus(run, limits) for run in runs) >= limits.surplus_files
    return [file.number for run in runs for file in run] if too_many else []


def surplus_files(state: TableState, limits: UpkeepLimits) -> int:
    """Return how many files a merge would do away with; 0 as long as none is due."""
    return sum(_surplus(run, limits) for run in _runs(state, limits)) if mergeable_files(state, limits) else 0


def index_work(state: TableState, index: str, limits: UpkeepLimits) -> IndexWork:
    """Return what the index of this name needs."""
    if state.trained_rows is None:
        return IndexWork.BUILD if state.rows >= limits.index_from_rows else IndexWork.NONE
    if state.rows > _GROWTH * max(state.trained_rows, limits.index_from_rows):
        return IndexWork.BUILD
    due = _unindexed(state, index) > max(limits.index_from_rows, _UNINDEXED_SHARE * state.rows)
    return IndexWork.EXTEND if due else IndexWork.NONE


def unindexed_rows(state: TableState, index: str, limits: UpkeepLimits) -> int:
    """Return how many rows are in no index, if that is due to change; 0 otherwise."""
    due = index_work(state, index, limits) is not IndexWork.NONE
    return max(1, _unindexed(state, index)) if due else 0


def partitions(rows: int, limits: UpkeepLimits) -> int:
    """Return how many partitions the index of a table of this many rows has."""
    return max(1, rows // limits.partition_rows)


def partitions_searched(held: int, *, rows: int, of_tenant: int, limits: UpkeepLimits) -> int:
    """Return in how many of `held` partitions a search looks, from the nearest on.

    The nearest rows of a small tenant lie farther away than those of all tenants, so they are in more
    partitions: how many more was measured (ADR 30).
    """
    rarity = sqrt(max(1.0, rows / max(1, of_tenant)))
    return min(held, ceil(limits.searched_rows / limits.partition_rows + rarity * held / 16))


def _runs(state: TableState, limits: UpkeepLimits) -> Iterator[Sequence[TableFile]]:
    """Yield the neighbours that a merge takes together: small files in the same indexes."""
    for (small, _), run in groupby(
        state.files, key=lambda file: (file.rows < limits.rows_of_a_file, file.indexes)
    ):
        if small:
            yield list(run)


def _surplus(run: Sequence[TableFile], limits: UpkeepLimits) -> int:
    return len(run) - max(1, ceil(sum(file.rows for file in run) / limits.rows_of_a_file))


def _unindexed(state: TableState, index: str) -> int:
    return sum(file.rows for file in state.files if index not in file.indexes)
