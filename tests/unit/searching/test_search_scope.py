"""Which of a tenant's documents a search looks at, and what it says of the others, by table."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from embedfleet.errors import Remedy
from embedfleet.records.collections import Collection
from embedfleet.searching.scope import scope_of_search


def collection(number: int, model: str) -> Collection:
    return Collection(number, "alice", model, f"space {number}", 4)


A, B, A_NEWER, C = collection(1, "a"), collection(2, "b"), collection(3, "a"), collection(4, "c")


@pytest.mark.parametrize(
    ("live", "model", "unfinished", "searched", "others", "notice", "remedy"),
    [
        ({1: 5}, None, 0, [A], [], None, None),
        ({2: 5}, None, 0, [B], [], None, None),  # the only one
        ({2: 5}, "b", 0, [B], [], None, None),
        ({1: 5, 2: 1200, 4: 1}, None, 0, [A, B, C], [], None, None),
        (
            {1: 5, 2: 1200},
            "a",
            0,
            [A],
            [("b", 1200)],
            "searched the 5 documents of model `a` only, and not 1,200 of `b`",
            Remedy.CHOOSE_MODEL,
        ),
        (
            {1: 5, 3: 2},
            None,
            0,
            [A_NEWER],
            [("a", 5)],
            "searched the 2 documents of model `a` only, and not 5 of `a`; "
            "ingest those of an earlier `a` again",
            None,
        ),
        (
            {2: 7},
            "a",
            0,
            [],
            [("b", 7)],
            "tenant `alice` has no documents of model `a`, but 7 of `b`",
            Remedy.CHOOSE_MODEL,
        ),
        (
            {},
            None,
            3,
            [],
            [],
            "tenant `alice` has no searchable documents yet: 3 jobs are unfinished",
            Remedy.LIST_JOBS,
        ),
        (
            {},
            "a",
            0,
            [],
            [],
            "tenant `alice` has no documents: look at the tenant's name, or ingest some",
            None,
        ),
    ],
)
def test_what_is_searched_and_what_is_said_of_the_rest(
    live: Mapping[int, int],
    model: str | None,
    unfinished: int,
    searched: list[Collection],
    others: list[tuple[str, int]],
    notice: str | None,
    remedy: Remedy | None,
) -> None:
    scope = scope_of_search("alice", [A, B, A_NEWER, C], live, model=model, unfinished=unfinished)
    assert scope.collections == searched
    assert all(live[one.collection_id] == scope.left_out(one, "").documents for one in scope.collections)
    assert [(one.model, one.documents) for one in scope.not_searched] == others
    assert (scope.notice, scope.remedy) == (notice, remedy)
