"""A filter finds the same documents in SQLite, PostgreSQL, Chroma and routing, and by a look at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chromadb
import pytest
from chromadb.api.models.Collection import Collection as ChromaCollection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from embedfleet.document_filter import AllOf, Condition, Operator, PassageFilter, Where
from embedfleet.document_metadata import Metadata
from embedfleet.records import passages
from embedfleet.routing.metadata_match import meets
from embedfleet.sql import document_lock
from support.examples import examples
from support.passages import Document, write_live

TENANT = "alice"
NAMES = ["a", "b.c-d", "größe"]
# Texts and numbers that are alike for one type and not for another.
SCALARS: list[str | int | float | bool] = [
    "", "a", "A", "b", "ab", "1", "true", "é", "😀", "%", "_",
    True, False, 0, 1, -1, 2, 0.1, 1.0, 1.5, -0.0, 1e300, 5e-324, 0.1 + 0.2, 2**53 + 1, 2**63 - 1,
]  # fmt: skip
LISTS = [[], ["a"], ["a", "b"], ["é", "1"], [""]]

metadata = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([*SCALARS, *LISTS]), max_size=3)
text = st.sampled_from([one for one in SCALARS if isinstance(one, str)])
number = st.sampled_from([one for one in SCALARS if not isinstance(one, str | bool)])
# Chroma rounds 0.1 to 0 to compare it with whole numbers, and so finds 0 for `$gte` 0.1. We do not.
whole = st.sampled_from([one for one in SCALARS if type(one) is int and one < 2**53])
flag = st.booleans()


def operands(
    scalar: st.SearchStrategy[Any], ordered: st.SearchStrategy[Any], several: st.SearchStrategy[Any]
) -> st.SearchStrategy[tuple[str, Any]]:
    return st.one_of(
        st.tuples(st.sampled_from(["$eq", "$ne"]), scalar),
        st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
        st.tuples(st.sampled_from(["$in", "$nin"]), several),
        st.tuples(st.sampled_from(["$contains", "$not_contains"]), text),
    )


def some(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(one, min_size=1, max_size=3)


chromas_operand = operands(text | flag | whole, whole, some(text) | some(flag) | some(whole))
our_operand = operands(text | flag | number, text | number, some(text | flag | number))
operand = st.shared(st.booleans(), key="only what Chroma takes").flatmap(
    lambda only_chromas: chromas_operand if only_chromas else our_operand
)
condition = st.builds(lambda name, one: {name: {one[0]: one[1]}}, st.sampled_from(NAMES), operand)
where = st.recursive(
    condition,
    lambda inner: st.builds(
        lambda key, parts: {key: parts},
        st.sampled_from(["$and", "$or"]),
        st.lists(inner, min_size=2, max_size=3),
    ),
    max_leaves=5,
)


def holds(condition: Where, held: Metadata) -> bool:
    """What the docstring of `Condition` says, for one document."""
    if not isinstance(condition, Condition):
        parts = [holds(one, held) for one in condition.parts]
        return all(parts) if isinstance(condition, AllOf) else any(parts)
    value = held.get(condition.name)
    first: Any = condition.values[0]
    match condition.operator:
        case Operator.EQ | Operator.IN:
            return any(equal(value, one) for one in condition.values)
        case Operator.NE | Operator.NIN:
            return not any(equal(value, one) for one in condition.values)
        case Operator.CONTAINS:
            return isinstance(value, list) and first in value
        case Operator.NOT_CONTAINS:
            return not (isinstance(value, list) and first in value)
    if kind(value) != kind(first):
        return False
    compared: Any = value
    return bool(
        {
            Operator.GT: compared > first,
            Operator.GTE: compared >= first,
            Operator.LT: compared < first,
            Operator.LTE: compared <= first,
        }[condition.operator]
    )


def kind(value: object) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def equal(value: object, other: object) -> bool:
    return kind(value) == kind(other) and not isinstance(value, list) and value == other


@pytest.fixture(scope="module")
def chroma() -> ChromaCollection:
    return chromadb.EphemeralClient().create_collection("filters", embedding_function=None)


def in_chroma(collection: ChromaCollection, made: Sequence[Document], asked: dict[str, Any]) -> set[str]:
    """The media ids that Chroma's own filter finds."""
    if old := collection.get(include=[])["ids"]:
        collection.delete(ids=old)
    collection.add(
        ids=[one.media_id for one in made],
        embeddings=[[1.0]] * len(made),
        # Chroma takes no empty list, so storage leaves it out, too.
        metadatas=[
            {"media_id": one.media_id} | {name: value for name, value in one.metadata.items() if value != []}
            for one in made
        ],
    )
    return set(collection.get(where=asked, include=[])["ids"])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=examples(100),
)
@given(
    held=st.lists(metadata, min_size=1, max_size=8),
    asked=where,
    only_chromas=st.shared(st.booleans(), key="only what Chroma takes"),
)
def test_a_filter_finds_exactly_the_documents_for_which_it_holds(
    engine: Engine,
    chroma: ChromaCollection,
    held: list[dict[str, Any]],
    asked: dict[str, Any],
    only_chromas: bool,
) -> None:
    made = [Document(str(place), f"text {place}", one) for place, one in enumerate(held)]
    wanted = PassageFilter(where=asked)
    assert wanted.condition is not None
    expected = {one.media_id for one in made if holds(wanted.condition, one.metadata)}
    assert {one.media_id for one in made if meets(one.metadata, wanted.condition)} == expected
    with engine.connect() as conn:
        document_lock.begin(conn)
        collection = write_live(conn, TENANT, "space", 1, made)
        ids = passages.allowed_ids(conn, TENANT, collection.collection_id, wanted)
        conn.rollback()
    media_ids = {one.chunk_id: one.media_id for one in made}
    assert {media_ids[one] for one in ids} == expected
    if only_chromas:
        assert in_chroma(chroma, made, asked) == expected
