"""The options that say which documents are meant, and the filter that results from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.metadata_option import value_of

if TYPE_CHECKING:
    from embedfleet.document_filter import DocumentFilter

_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="NAME=VALUE of the metadata, or a condition in Chroma's syntax as JSON; if repeated, all hold.",
    ),
]
MediaIds = Annotated[
    list[str] | None, typer.Option("--media-id", help="Only this document; may be repeated.")
]
SourcePrefix = Annotated[
    str | None, typer.Option("--source", help="What the source begins with, e.g. /handbook/.")
]
Heading = Annotated[
    str | None, typer.Option("--heading", help="Only below this heading, e.g. 'Guide > Install'.")
]
After = Annotated[
    datetime | None,
    typer.Option("--created-after", formats=_DATES, help="Submitted then or later (UTC)."),
]
Before = Annotated[
    datetime | None,
    typer.Option("--created-before", formats=_DATES, help="Submitted before then (UTC)."),
]


def filter_fields(
    *,
    where: Sequence[str] | None,
    media_ids: Sequence[str] | None = None,
    source: str | None,
    after: datetime | None,
    before: datetime | None,
) -> dict[str, Any]:
    """Return the fields of a `DocumentFilter`. Raises InvalidRequest for a condition that is not JSON."""
    return {
        "where": _condition(where or ()),
        "media_ids": media_ids or None,
        "source": source,
        "created_after": after,
        "created_before": before,
    }


def document_filter(**options: Any) -> DocumentFilter:
    """Return the filter that the options say. Raises InvalidRequest."""
    from embedfleet.document_filter import DocumentFilter

    return DocumentFilter(**filter_fields(**options))


def _condition(given: Sequence[str]) -> dict[str, Any] | None:
    parts = [_part(one) for one in given]
    return None if not parts else parts[0] if len(parts) == 1 else {"$and": parts}


def _part(given: str) -> dict[str, Any]:
    from embedfleet.errors import InvalidRequest

    if given.lstrip().startswith("{"):
        try:
            found: dict[str, Any] = json.loads(given)
        except (ValueError, RecursionError) as exc:
            raise InvalidRequest(f"--where: `{given[:80]}` is not JSON: {exc}") from exc
        return found
    name, equals, value = given.partition("=")
    if not equals:
        raise InvalidRequest(
            f"--where: `{given[:80]}` must be NAME=VALUE, such as `team=legal`, or a condition as JSON"
        )
    return {name: value_of(value)}
