"""What Pydantic found wrong, as one problem."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from embedfleet.validation import Problem, first_problem


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = Field(default=1, ge=1)

    @field_validator("size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value


class Outer(BaseModel):
    inner: Inner = Inner()
    by_name: dict[int, str] = Field(default_factory=dict)


def problem_of(given: Any) -> Problem:
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(given)
    return first_problem(refused.value)


def test_the_field_is_named_by_its_path_and_the_value_is_kept() -> None:
    problem = problem_of({"inner": {"size": 0}})
    assert (problem.field, problem.given) == ("inner.size", 0)
    assert problem.message == "Input should be greater than or equal to 1"


def test_what_our_own_validators_say_stands_alone() -> None:
    assert problem_of({"inner": {"size": 2}}).message == "must be odd"


def test_an_unknown_key_is_told_by_its_kind() -> None:
    problem = problem_of({"inner": {"sise": 1}})
    assert (problem.kind, problem.path) == ("extra_forbidden", ("inner", "sise"))


def test_a_wrong_key_of_a_mapping_is_named_as_it_was_given() -> None:
    assert problem_of({"by_name": {"x": "y"}}).field == "by_name.x"


def test_a_value_that_is_wrong_as_a_whole_has_no_field() -> None:
    assert problem_of("no mapping").field == ""
