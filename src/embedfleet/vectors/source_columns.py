"""What the columns of a table of another system are, by the names that most systems give them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

TEXT_COLUMNS = ("document", "text", "content", "page_content", "chunk_text", "chunk", "body")
"""Names of the column with the text of a row. The first that is there counts."""

METADATA_COLUMNS = ("cmetadata", "metadata", "metadata_", "meta")
"""Names of the column with an object whose entries are metadata of the row."""


def first_of(usual: Sequence[str], there: Collection[str]) -> str | None:
    """Return the first of the usual names that is there."""
    return next((name for name in usual if name in there), None)


def row_metadata(columns: Mapping[str, Any], nested: Any) -> dict[str, Any]:
    """Return the metadata of a row: the entries of a nested object, and its columns, which win.

    Values that are missing are left out.
    """
    found = {**(nested if isinstance(nested, Mapping) else {}), **columns}
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """Return the value as a text, a number or a boolean; a list or an object as it is."""
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, str | int | float | bool | list | dict) else str(value)
