"""The option `--meta NAME=VALUE`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedfleet.document_metadata import Value


def metadata_of(assignments: Sequence[str]) -> dict[str, Value] | None:
    """Return the metadata that these `NAME=VALUE` say; None without any.

    A value is a number, a boolean or a list of texts if it is one in JSON, otherwise a text. A name that
    comes again makes a list. Raises InvalidRequest.
    """
    from embedfleet import document_metadata
    from embedfleet.errors import InvalidRequest

    values: dict[str, list[Any]] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise InvalidRequest(f"--meta: `{assignment}` must be NAME=VALUE, such as `team=legal`")
        values.setdefault(name, []).append(value)
    given = {name: value_of(several[0]) if len(several) == 1 else several for name, several in values.items()}
    try:
        return document_metadata.checked(given) if given else None
    except ValueError as exc:
        raise InvalidRequest(f"--meta: {exc}") from exc


def value_of(text: str) -> Any:
    """Return the number, boolean or list that the text is in JSON, otherwise the text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if value is None or isinstance(value, dict) else value
