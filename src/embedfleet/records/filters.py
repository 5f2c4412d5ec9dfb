"""Turns filters of documents and passages into SQL conditions, for both databases.

Metadata is JSON in `generations.metadata`. SQLite and PostgreSQL look into JSON by other functions, but both
give the same documents, and those that Chroma would give by its own filter.
"""

from __future__ import annotations

import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, and_, cast, false, func, literal, not_, or_, select

from embedfleet.document_filter import AllOf, Condition, DocumentFilter, Operator, PassageFilter, Where
from embedfleet.records.chunks import HEADING_SEPARATOR
from embedfleet.sql.tables import chunks, documents, generations

_COMPARE = {
    Operator.GT: operator.gt,
    Operator.GTE: operator.ge,
    Operator.LT: operator.lt,
    Operator.LTE: operator.le,
}


def document_conditions(wanted: DocumentFilter, dialect: str) -> list[ColumnElement[bool]]:
    """Return the conditions for a query over `documents` and `generations`, one generation of each document.

    `dialect` is `conn.dialect.name`.
    """
    found: list[ColumnElement[bool]] = []
    if wanted.media_ids is not None:
        found.append(documents.c.media_id.in_(wanted.media_ids))
    if wanted.source is not None:
        found.append(begins_with(documents.c.source, wanted.source))
    if wanted.created_after is not None:
        found.append(documents.c.created_at >= wanted.created_after.timestamp())
    if wanted.created_before is not None:
        found.append(documents.c.created_at < wanted.created_before.timestamp())
    if wanted.condition is not None:
        compiler = _Sqlite() if dialect == "sqlite" else _Postgresql()
        found.append(compiler.compiled(wanted.condition))
    return found


def passage_conditions(wanted: PassageFilter, dialect: str) -> list[ColumnElement[bool]]:
    """Return the conditions for a query over `documents`, `generations` and `chunks`."""
    found = document_conditions(wanted, dialect)
    if wanted.heading is not None:
        # With a separator at both ends, a part of the path is whole headings.
        path = literal(HEADING_SEPARATOR) + chunks.c.heading + HEADING_SEPARATOR
        part = f"{HEADING_SEPARATOR}{wanted.heading}{HEADING_SEPARATOR}"
        position = func.instr if dialect == "sqlite" else func.strpos
        found.append(position(path, part) > 0)
    return found


def begins_with(column: ColumnElement[str | None], prefix: str) -> ColumnElement[bool]:
    """Whether the text begins with the prefix. LIKE would not do: in SQLite it takes `A` for `a`."""
    return func.substr(column, 1, len(prefix)) == prefix


# The types of numbers in SQLite's JSON.
_NUMBERS = ("integer", "real")


class _Compiler(ABC):
    """Compiles a condition on metadata. Every part is true or false, never NULL, so it can be negated."""

    def compiled(self, where: Where) -> ColumnElement[bool]:
        if isinstance(where, Condition):
            return self._condition(where)
        parts = [self.compiled(part) for part in where.parts]
        return and_(*parts) if isinstance(where, AllOf) else or_(*parts)

    def _condition(self, one: Condition) -> ColumnElement[bool]:
        match one.operator:
            case Operator.EQ | Operator.IN:
                return _known(self._equals_any(one.name, one.values))
            case Operator.NE | Operator.NIN:
                return not_(_known(self._equals_any(one.name, one.values)))
            case Operator.CONTAINS:
                return _known(self._contains(one.name, str(one.values[0])))
            case Operator.NOT_CONTAINS:
                return not_(_known(self._contains(one.name, str(one.values[0]))))
            case _:
                return _known(self._compares(one.name, one.operator, one.values[0]))

    @abstractmethod
    def _equals_any(self, name: str, values: Sequence[Any]) -> ColumnElement[bool]:
        """One flat list, however many values there are: SQLite takes expressions of 1,000 levels only."""

    @abstractmethod
    def _compares(self, name: str, comparison: Operator, value: Any) -> ColumnElement[bool]: ...

    @abstractmethod
    def _contains(self, name: str, text: str) -> ColumnElement[bool]: ...


def _known(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """A document without the name, or without metadata, gives NULL: the condition does not hold then."""
    return func.coalesce(condition, false())


class _Sqlite(_Compiler):
    def _equals_any(self, name: str, values: Sequence[Any]) -> ColumnElement[bool]:
        texts = [value for value in values if isinstance(value, str)]
        flags = [json.dumps(value) for value in values if isinstance(value, bool)]
        numbers = [value for value in values if not isinstance(value, str | bool)]
        # SQLite reads all numbers from JSON, so that it rounds all in the same way.
        given = func.json_each(json.dumps(numbers)).table_valued("value")
        held = _held(name)
        return or_(
            and_(_kind(name) == "text", held.in_(texts)),
            _kind(name).in_(flags),
            and_(_kind(name).in_(_NUMBERS), held.in_(select(given.c.value))),
        )

    def _compares(self, name: str, comparison: Operator, value: Any) -> ColumnElement[bool]:
        compare = _COMPARE[comparison]
        if isinstance(value, str):
            return and_(_kind(name) == "text", compare(_held(name), value))
        number = func.json_extract(json.dumps([value]), "$[0]")
        return and_(_kind(name).in_(_NUMBERS), compare(_held(name), number))

    def _contains(self, name: str, text: str) -> ColumnElement[bool]:
        one = func.json_each(generations.c.metadata, _path(name)).table_valued("value")
        inside = (
            select(literal(1)).select_from(one).where(one.c.value == text).correlate(generations).exists()
        )
        return and_(_kind(name) == "array", inside)


def _path(name: str) -> str:
    """The path of a name in SQLite's JSON. A name holds no quote, so it needs no escape."""
    return f'$."{name}"'


def _held(name: str) -> ColumnElement[Any]:
    return func.json_extract(generations.c.metadata, _path(name))


def _kind(name: str) -> ColumnElement[str]:
    return func.json_type(generations.c.metadata, _path(name))


class _Postgresql(_Compiler):
    def __init__(self) -> None:
        # Imported by need, as the dialect takes as long to import as a few queries take.
        from sqlalchemy.dialects.postgresql import JSONB

        self._type = JSONB

    def _equals_any(self, name: str, values: Sequence[Any]) -> ColumnElement[bool]:
        return self._held(name).in_([self._json(value) for value in values])

    def _compares(self, name: str, comparison: Operator, value: Any) -> ColumnElement[bool]:
        compare = _COMPARE[comparison]
        kind = func.jsonb_typeof(self._held(name))
        if isinstance(value, str):
            text = func.jsonb_extract_path_text(self._metadata(), name)
            # Without a collation, the order would be that of the database's language.
            return and_(kind == "string", compare(text.collate("C"), value))
        return and_(kind == "number", compare(self._held(name), self._json(value)))

    def _contains(self, name: str, text: str) -> ColumnElement[bool]:
        held = self._held(name)
        return and_(func.jsonb_typeof(held) == "array", held.op("@>")(self._json(text)))

    def _metadata(self) -> ColumnElement[Any]:
        return cast(generations.c.metadata, self._type)

    def _held(self, name: str) -> ColumnElement[Any]:
        return func.jsonb_extract_path(self._metadata(), name)

    def _json(self, value: Any) -> ColumnElement[Any]:
        return cast(literal(json.dumps(value), String), self._type)
