"""Which filters there are, and what is said about those that are none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from embedfleet.document_filter import (
    MOST_CONDITIONS,
    MOST_LEVELS,
    MOST_VALUES,
    AllOf,
    AnyOf,
    Condition,
    DocumentFilter,
    Operator,
    PassageFilter,
    Where,
    parsed,
)
from embedfleet.errors import InvalidRequest
from embedfleet.searching.search import SearchRequest

TEAM = Condition("team", Operator.EQ, ("legal",))
YEAR = Condition("year", Operator.GTE, (2024,))


@pytest.mark.parametrize(
    ("where", "tree"),
    [
        ({"team": "legal"}, TEAM),
        ({"team": {"$eq": "legal"}}, TEAM),
        ({"team": "legal", "year": {"$gte": 2024}}, AllOf((TEAM, YEAR))),
        ({"year": {"$gte": 2024, "$lt": 2030}}, AllOf((YEAR, Condition("year", Operator.LT, (2030,))))),
        ({"$and": [{"team": "legal"}, {"year": {"$gte": 2024}}]}, AllOf((TEAM, YEAR))),
        ({"$or": [{"team": "legal"}, {"$and": [{"year": {"$gte": 2024}}]}]}, AnyOf((TEAM, AllOf((YEAR,))))),
        ({"team": {"$in": ["a", 1, True]}}, Condition("team", Operator.IN, ("a", 1, True))),
        ({"tags": {"$not_contains": "x"}}, Condition("tags", Operator.NOT_CONTAINS, ("x",))),
        ({"day": {"$gt": "2024-01-01"}}, Condition("day", Operator.GT, ("2024-01-01",))),
    ],
)
def test_a_condition_is_read_as_chroma_reads_it(where: Any, tree: Where) -> None:
    assert parsed(where) == tree
    assert PassageFilter(where=where).condition == tree


def nested(levels: int) -> dict[str, Any]:
    return {"$and": [nested(levels - 1)]} if levels > 1 else {"a": 1}


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({}, "must be an object with a condition"),
        ([], "must be an object with a condition"),
        ("team", "must be an object with a condition"),
        ({"$and": []}, "`$and` must have a list of conditions"),
        ({"$or": {"a": 1}}, "`$or` must have a list of conditions"),
        ({"$or": [{}]}, "must be an object with a condition"),
        ({"$not": {"a": 1}}, "`$not` is no operator here"),
        ({"a": {"$regex": "x"}}, "`a`: `$regex` is no operator: known are $eq, $ne"),
        ({"a": {"b": 1}}, "`a`: `b` is no operator"),
        ({"a": {}}, "`a`: must have an operator"),
        ({"a": None}, "`a`: must be a text"),
        ({"a": ["x"]}, "`a`: must be a text"),
        ({"a": {"$in": []}}, "`a`: $in must have a list"),
        ({"a": {"$in": "x"}}, "`a`: $in must have a list"),
        ({"a": {"$in": [None]}}, "`a`: must be a text"),
        ({"a": {"$gt": True}}, "booleans have no order"),
        ({"a": {"$contains": 1}}, "lists hold texts"),
        ({"a": {"$eq": float("nan")}}, "not finite"),
        ({"a": {"$eq": 2**63}}, "64 bits"),
        ({"a": "x\0"}, "NUL"),
        ({"a": "\ud800"}, "surrogate"),
        ({"$\ud800": 1}, "`$\\ud800` is no operator here"),
        ({"a": {"\ud800\n": 1}}, "`\\ud800\\n` is no operator"),
        ({"a": {1: 1}}, "of type int is no operator"),
        ({"a b": 1}, "letters, digits"),
        ({1: 1}, "letters, digits"),
        ({"source": "/a"}, "`source` is one that embedfleet writes itself"),
        (nested(MOST_LEVELS + 1), "more than 8 levels"),
        ({f"a{number}": 1 for number in range(MOST_CONDITIONS + 1)}, "more than 64 conditions"),
        ({"a": {"$in": list(range(MOST_VALUES + 1))}}, "more than 1,000 values"),
    ],
)
def test_a_wrong_condition_is_refused_with_what_is_wrong(where: Any, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        SearchRequest(query="words", where=where)
    assert str(refused.value).startswith("where")
    assert says in str(refused.value)
    assert str(refused.value).encode().isascii()


def test_a_filter_with_the_most_conditions_levels_and_values_is_taken() -> None:
    parsed(nested(MOST_LEVELS))
    parsed({f"a{number}": 1 for number in range(MOST_CONDITIONS)})
    parsed({"a": {"$in": list(range(MOST_VALUES))}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"media_ids": []},
        {"media_ids": "1"},
        {"media_ids": ["x\0"]},
        {"media_ids": ["\ud800"]},
        {"source": "\ud800"},
        {"media_ids": [str(number) for number in range(MOST_VALUES + 1)]},
        {"source": ""},
        {"source": "\0"},
        {"heading": ""},
        {"heading": "\0"},
        {"created_after": "yesterday"},
    ],
)
def test_other_wrong_filters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        PassageFilter(**wrong)


def test_a_filter_says_something_if_anything_is_given() -> None:
    assert not DocumentFilter().says_something
    assert not SearchRequest(query="words", limit=3, model="m").says_something
    for given in ({"where": {"a": 1}}, {"media_ids": [1]}, {"source": "/"}, {"created_after": "2024-01-01"}):
        assert DocumentFilter(**given).says_something
        assert SearchRequest(query="words", **given).says_something
    assert SearchRequest(query="words", heading="Title").says_something


def test_a_time_without_a_zone_is_utc_and_a_request_survives_json() -> None:
    given: dict[str, Any] = {"media_ids": [1, "b"], "created_before": "2024-01-01"}
    request = SearchRequest(query="words", where={"a": {"$in": [1, "é"]}}, **given)
    assert request.created_before == datetime(2024, 1, 1, tzinfo=UTC)
    assert request.media_ids == ("1", "b")
    again = SearchRequest.model_validate_json(request.model_dump_json())
    assert (again.model_dump_json(), again.condition) == (request.model_dump_json(), request.condition)
    assert json.loads(request.model_dump_json())["where"] == {"a": {"$in": [1, "é"]}}
