"""What a submission returns, so that a search can wait for it."""

from __future__ import annotations

import pytest

from embedfleet.errors import InvalidRequest
from embedfleet.positions import Position

FIRST, SECOND, LAST = (f"job_{digit * 32}" for digit in "01f")


def test_the_position_of_one_job_is_its_id_and_that_of_several_is_a_range() -> None:
    assert str(Position.of_jobs([SECOND])) == SECOND
    assert str(Position.of_jobs([SECOND, LAST, FIRST])) == f"{FIRST}..{LAST}"
    for position in (SECOND, f"{FIRST}..{LAST}"):
        assert str(Position.parse(position)) == position


TOO_MANY = f"{FIRST}..{SECOND}..{LAST}"


@pytest.mark.parametrize(
    "text", ["", "job_1", "42", FIRST.upper(), f"{LAST}..{FIRST}", f"{FIRST}..", TOO_MANY, FIRST + "\n"]
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a position") as caught:
        Position.parse(text)
    assert caught.value.field == "after"
