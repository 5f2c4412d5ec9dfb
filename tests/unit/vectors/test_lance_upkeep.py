"""When a table of LanceDB is merged and indexed, and how much of its index a search reads."""

from __future__ import annotations

import pytest

from embedfleet.vectors.lancedb.upkeep import (
    IndexWork,
    TableFile,
    TableState,
    UpkeepLimits,
    index_work,
    mergeable_files,
    partitions,
    partitions_searched,
    surplus_files,
    unindexed_rows,
)

LIMITS = UpkeepLimits(rows_of_a_file=100, surplus_files=4, index_from_rows=1_000, partition_rows=50)
NONE, ALL = frozenset[str](), frozenset({"vectors"})


def table(*rows: int, indexed: int = 0, trained: int | None = None) -> TableState:
    """A table with these rows in its files, the first of which are in the index."""
    files = [TableFile(number, count, ALL if number < indexed else NONE) for number, count in enumerate(rows)]
    return TableState(files, trained)


def test_small_files_gather_until_it_is_worth_a_merge() -> None:
    assert mergeable_files(table(*[5] * 4), LIMITS) == []
    assert mergeable_files(table(*[5] * 5), LIMITS) == [0, 1, 2, 3, 4]
    assert surplus_files(table(*[5] * 4), LIMITS) == 0
    assert surplus_files(table(*[5] * 5), LIMITS) == 4


def test_full_files_stay_and_part_the_small_ones_which_lance_does_not_merge_across_them() -> None:
    scattered = table(5, 100, 5, 100, 5, 100, 5, 100, 5, 100)
    assert mergeable_files(scattered, LIMITS) == []
    assert surplus_files(scattered, LIMITS) == 0, "a debt that no merge pays would stop the storage for ever"
    assert mergeable_files(table(5, 100, *[5] * 5), LIMITS) == [2, 3, 4, 5, 6]


def test_files_in_an_index_are_not_merged_with_those_that_are_in_none() -> None:
    assert mergeable_files(table(*[5] * 5, indexed=2), LIMITS) == []
    assert mergeable_files(table(*[5] * 9, indexed=2), LIMITS) == list(range(9))


def test_what_a_merge_leaves_is_not_merged_again() -> None:
    assert mergeable_files(table(60, 60, 60, 60, 60, 60), LIMITS) == []


@pytest.mark.parametrize(
    ("state", "work"),
    [
        (table(999), IndexWork.NONE),
        (table(1_000), IndexWork.BUILD),
        (table(5_000, 999, indexed=1, trained=5_000), IndexWork.NONE),
        (table(5_000, 1_001, indexed=1, trained=5_000), IndexWork.EXTEND),
        (table(100_000, 5_000, indexed=1, trained=100_000), IndexWork.NONE),
        (table(100_000, 6_000, indexed=1, trained=100_000), IndexWork.EXTEND),
        (table(8_001, indexed=1, trained=1_000), IndexWork.BUILD),
    ],
)
def test_an_index_is_built_extended_and_built_again_when_it_is_due(
    state: TableState, work: IndexWork
) -> None:
    assert index_work(state, "vectors", LIMITS) is work
    assert (unindexed_rows(state, "vectors", LIMITS) > 0) == (work is not IndexWork.NONE)


def test_a_search_looks_into_more_partitions_the_smaller_the_part_of_its_tenant_is() -> None:
    def searched(of_tenant: int) -> int:
        return partitions_searched(244, rows=1_000_000, of_tenant=of_tenant, limits=UpkeepLimits())

    assert partitions(1_000_000, UpkeepLimits()) == 244
    shares = [searched(rows) for rows in (1_000_000, 250_000, 20_000, 1, 0)]
    assert shares == sorted(shares)
    assert shares[0] == 32
    assert shares[-1] == 244
    assert partitions_searched(3, rows=20_000, of_tenant=20_000, limits=UpkeepLimits()) == 3
