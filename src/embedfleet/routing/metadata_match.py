"""Whether metadata meets a condition, without a database. A test holds it to `records.filters`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from embedfleet.document_filter import AllOf, AnyOf, Condition, Operator, Scalar, Where
from embedfleet.document_metadata import Metadata, Value

_OPPOSITES = {
    Operator.NE: Operator.EQ,
    Operator.NIN: Operator.IN,
    Operator.NOT_CONTAINS: Operator.CONTAINS,
}
_ORDERS: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.GT: operator.gt,
    Operator.GTE: operator.ge,
    Operator.LT: operator.lt,
    Operator.LTE: operator.le,
}


def meets(metadata: Metadata, condition: Where) -> bool:
    """Whether the metadata meets the condition, as `document_filter.Condition` defines it."""
    match condition:
        case AllOf(parts):
            return all(meets(metadata, part) for part in parts)
        case AnyOf(parts):
            return any(meets(metadata, part) for part in parts)
        case Condition(name, known, values) if known in _OPPOSITES:
            return not meets(metadata, Condition(name, _OPPOSITES[known], values))
        case Condition(name, known, values):
            return name in metadata and _holds(metadata[name], known, values)


def _holds(value: Value, known: Operator, wanted: tuple[Scalar, ...]) -> bool:
    if known is Operator.CONTAINS:
        return isinstance(value, list) and wanted[0] in value
    if isinstance(value, list):
        return False
    if known in _ORDERS:
        return _kind(value) is _kind(wanted[0]) and _ORDERS[known](value, wanted[0])
    return any(_kind(value) is _kind(one) and value == one for one in wanted)


def _kind(value: Scalar) -> type:
    """Return the type that counts in a comparison: whole numbers and fractions are of one."""
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
