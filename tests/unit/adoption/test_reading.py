"""Which rows of a document count, and how documents come in pages."""

from __future__ import annotations

import pytest

from embedfleet.adoption.groups import GroupFinding, GroupOutcome, Sample
from embedfleet.adoption.reading import chosen_pages
from embedfleet.adoption.survey import DocumentKey, Group, RowRef, Survey

RIGHT, OTHER, WRONG, UNKNOWN = (Group("p", name, 8) for name in ("right", "other", "wrong", "unknown"))
OUTCOMES = {
    RIGHT: GroupOutcome.TAKE,
    OTHER: GroupOutcome.TAKE,
    WRONG: GroupOutcome.EMBED,
    UNKNOWN: GroupOutcome.REFUSE,
}
FINDINGS = {group: GroupFinding(group, 1, one, "m", Sample(), "") for group, one in OUTCOMES.items()}


def rows(count: int) -> list[RowRef]:
    return [RowRef("c", str(number), number) for number in range(count)]


def survey_of(*documents: dict[Group, int]) -> Survey:
    found = Survey()
    for number, groups in enumerate(documents):
        found.documents[DocumentKey("t", str(number))] = {group: rows(n) for group, n in groups.items()}
    return found


@pytest.mark.parametrize(
    ("groups", "best", "others"),
    [
        ({UNKNOWN: 9, WRONG: 9, RIGHT: 1}, RIGHT, 18),
        ({OTHER: 2, RIGHT: 3}, RIGHT, 2),
        ({UNKNOWN: 9, WRONG: 1}, WRONG, 9),
        ({UNKNOWN: 1}, UNKNOWN, 0),
    ],
)
def test_of_several_groups_one_that_is_taken_counts_and_then_the_larger_one(
    groups: dict[Group, int], best: Group, others: int
) -> None:
    ((chosen,),) = chosen_pages(survey_of(groups), FINDINGS)
    assert (chosen.finding.group, chosen.others) == (best, others)


def test_a_page_is_bounded_in_rows_but_holds_a_document_that_is_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("embedfleet.adoption.reading._ROWS_PER_PAGE", 10)
    monkeypatch.setattr("embedfleet.adoption.reading._DOCUMENTS_PER_PAGE", 3)
    sizes = [4, 6, 1, 30, 2, 1, 1, 1]
    pages = list(chosen_pages(survey_of(*({RIGHT: size} for size in sizes)), FINDINGS))
    assert [[len(one.rows) for one in page] for page in pages] == [[4, 6], [1], [30], [2, 1, 1], [1]]
