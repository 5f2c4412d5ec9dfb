"""Reads the records in answers. What a later release of the server adds to a record is left out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter

from embedfleet.records.cursors import Page

T = TypeVar("T")
RecordT = TypeVar("RecordT", bound=BaseModel)


def record(kind: type[RecordT], response: httpx.Response) -> RecordT:
    """Return the record that is the body of the answer."""
    return kind.model_validate_json(response.content, extra="ignore")


def entries(kind: type[RecordT], response: httpx.Response, name: str) -> list[RecordT]:
    """Return the records in the list of this name."""
    return [kind.model_validate(one, extra="ignore") for one in response.json()[name]]


def page(kind: type[RecordT], response: httpx.Response, name: str) -> Page[RecordT]:
    """Return a page of a listing: the records in the list of this name, and the cursor of the next page."""
    return Page(entries(kind, response, name), next_cursor=response.json()["next_cursor"])


def value(kind: type[T], response: httpx.Response) -> T:
    """Return the body of the answer as a value of this type, such as a list of records."""
    adapted: T = TypeAdapter(kind).validate_json(response.content, extra="ignore")
    return adapted


def segment(text: object) -> str:
    """Return the text as one segment of a path, whatever its characters are.

    Dots are encoded too: `.` and `..` would mean other paths.
    """
    return quote(str(text), safe="").replace(".", "%2E")


def instant(when: datetime | None) -> str | None:
    """Return the instant as the server takes it. One without a time zone is in UTC."""
    if when is None:
        return None
    return (when.replace(tzinfo=UTC) if when.tzinfo is None else when).isoformat()


def document(request: BaseModel, **more: Any) -> dict[str, Any]:
    """Return the body that says what a request says, but nothing that it leaves out."""
    return request.model_dump(mode="json", exclude_unset=True) | more
