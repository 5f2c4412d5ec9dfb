"""Filters of documents and passages: conditions on metadata in Chroma's syntax, ids, sources and dates.

A filter is checked here, once, and becomes a tree that `records.filters` turns into SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from embedfleet.document_metadata import checked_name, checked_scalar, shown
from embedfleet.validation import Checked

# A filter is compiled to one SQL statement, and SQLite takes 32,766 values and an expression of 1,000 levels.
MOST_CONDITIONS = 64
MOST_LEVELS = 8
MOST_VALUES = 1_000

Scalar = str | int | float | bool


class Operator(StrEnum):
    """The comparisons of Chroma. A list of texts is looked into by the last two only."""

    EQ = "$eq"
    NE = "$ne"
    GT = "$gt"
    GTE = "$gte"
    LT = "$lt"
    LTE = "$lte"
    IN = "$in"
    NIN = "$nin"
    CONTAINS = "$contains"
    NOT_CONTAINS = "$not_contains"


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one name. `values` are several for `$in` and `$nin`, otherwise one.

    Numbers equal numbers of the same value, texts only texts, booleans only booleans. Texts are ordered by
    their characters' code points. `$ne`, `$nin` and `$not_contains` hold exactly if `$eq`, `$in` and
    `$contains` do not: so they hold for a document without the name.
    """

    name: str
    operator: Operator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple[Where, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple[Where, ...]


Where = Condition | AllOf | AnyOf
"""A condition on metadata."""


class DocumentFilter(Checked):
    """Which documents are meant: those for which all that is given holds.

    It looks at the version that readers see, or at the newest one of a document that they do not see yet. A
    wrong value raises InvalidRequest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: dict[str, Any] | None = Field(
        default=None,
        description="A condition on metadata in Chroma's syntax, such as "
        '{"$and": [{"team": "legal"}, {"year": {"$gte": 2024}}, {"tags": {"$contains": "final"}}]}.',
    )
    media_ids: Sequence[Annotated[str, StringConstraints(max_length=1024)]] | None = Field(
        default=None, min_length=1, max_length=MOST_VALUES, description="One of these documents."
    )
    source: str | None = Field(
        default=None, min_length=1, description="What the source begins with, such as `/handbook/`."
    )
    created_after: datetime | None = Field(
        default=None, description="First submitted then or later. Without a time zone it is UTC."
    )
    created_before: datetime | None = Field(default=None, description="First submitted before then.")

    @field_validator("where", mode="before")
    @classmethod
    def _is_a_condition(cls, value: Any) -> Any:
        if value is not None:
            parsed(value)
        return value

    @field_validator("media_ids", mode="before")
    @classmethod
    def _numbers_are_ids_too(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return tuple(str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in value)

    @field_validator("media_ids", "source")
    @classmethod
    def _any_database_takes_it(cls, value: Any) -> Any:
        for text in (value,) if isinstance(value, str) else value or ():
            if "\0" in text:
                raise ValueError("must not hold the character NUL")
            try:
                text.encode()
            except UnicodeEncodeError:  # Pydantic looks for it in a text, but not in a sequence of texts
                raise ValueError("is not valid text, it has a lone surrogate") from None
        return value

    @field_validator("created_after", "created_before")
    @classmethod
    def _has_a_zone(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @cached_property
    def condition(self) -> Where | None:
        """`where` as a tree."""
        return None if self.where is None else parsed(self.where)

    @property
    def says_something(self) -> bool:
        """Whether it leaves any document out, as far as it can be told."""
        return any(getattr(self, name) is not None for name in DocumentFilter.model_fields)


EVERY_DOCUMENT = DocumentFilter()
"""The filter that leaves nothing out."""


class PassageFilter(DocumentFilter):
    """Which passages are meant: those of the documents, under the heading."""

    heading: str | None = Field(
        default=None,
        min_length=1,
        description="Part of the heading path, such as `Install` or `Guide > Install`: whole headings, and "
        "what is below them.",
    )

    @field_validator("heading")
    @classmethod
    def _no_nul(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("must not hold the character NUL")
        return value

    @property
    def says_something(self) -> bool:
        return self.heading is not None or super().says_something


def parsed(where: Any) -> Where:
    """Return the condition that this says in Chroma's syntax, or raise ValueError that says what is wrong.

    Beyond Chroma, several names or operators in one object must all hold, and texts have an order.
    """
    counted = _Count()
    return _parsed(where, counted, level=1)


@dataclass(slots=True)
class _Count:
    """How many conditions and values were read so far."""

    conditions: int = 0
    values: int = 0


def _parsed(where: Any, count: _Count, level: int) -> Where:
    if level > MOST_LEVELS:
        raise ValueError(f"has more than {MOST_LEVELS} levels: make it flatter")
    if not isinstance(where, Mapping) or not where:
        raise ValueError('must be an object with a condition, such as {"team": "legal"}')
    return _all_of([part for key, value in where.items() for part in _parts(key, value, count, level)])


def _parts(key: Any, value: Any, count: _Count, level: int) -> list[Where]:
    if key in ("$and", "$or"):
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"`{key}` must have a list of conditions")
        parts = tuple(_parsed(one, count, level + 1) for one in value)
        return [AllOf(parts) if key == "$and" else AnyOf(parts)]
    if isinstance(key, str) and key.startswith("$"):
        raise ValueError(f"{shown(key)} is no operator here: `$and`, `$or` or a name must stand there")
    name = checked_name(key)
    if not isinstance(value, Mapping):
        return [_condition(name, "$eq", value, count)]
    if not value:
        raise ValueError(f"`{name}`: must have an operator, such as $eq")
    return [_condition(name, operator, operand, count) for operator, operand in value.items()]


def _condition(name: str, operator: Any, operand: Any, count: _Count) -> Condition:
    if operator not in list(Operator):
        raise ValueError(f"`{name}`: {shown(operator)} is no operator: known are {', '.join(Operator)}")
    known = Operator(operator)
    if known in (Operator.IN, Operator.NIN):
        if not isinstance(operand, list | tuple) or not operand:
            raise ValueError(f"`{name}`: {known} must have a list of values")
        values = tuple(checked_scalar(name, one) for one in operand)
    else:
        values = (checked_scalar(name, operand),)
    if known in _ORDERING and isinstance(values[0], bool):
        raise ValueError(f"`{name}`: {known} must have a number or a text, booleans have no order")
    if known in _LOOKING_INTO and not isinstance(values[0], str):
        raise ValueError(f"`{name}`: {known} must have a text, as lists hold texts")
    count.conditions += 1
    count.values += len(values)
    if count.conditions > MOST_CONDITIONS:
        raise ValueError(f"has more than {MOST_CONDITIONS} conditions: leave some out")
    if count.values > MOST_VALUES:
        raise ValueError(f"has more than {MOST_VALUES:,} values: ask in several parts")
    return Condition(name, known, values)


def _all_of(parts: list[Where]) -> Where:
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


_ORDERING = (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE)
_LOOKING_INTO = (Operator.CONTAINS, Operator.NOT_CONTAINS)
