"""The OpenAPI document: what clients and their generators read about every route."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from embedfleet.api.app import create_app
from embedfleet.api.parts import ApiParts
from embedfleet.settings import load_settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    parts = cast(ApiParts, SimpleNamespace(settings=load_settings(environ={})))
    return create_app(parts).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_says_what_it_does_and_what_it_answers(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation.get("description"), name
        for status, answer in operation["responses"].items():
            assert answer.get("description"), (name, status)
        good = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        forms = [form for answer in good for form in answer.get("content", {}).values()]
        assert forms, name
        assert all("schema" in form for form in forms), name


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    silent = [
        (name, parameter["name"])
        for name, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if not parameter.get("description")
    ]
    assert silent == []


def test_every_field_is_described(document: dict[str, Any]) -> None:
    silent = [
        (name, field)
        for name, schema in document["components"]["schemas"].items()
        for field, what in schema.get("properties", {}).items()
        if "$ref" not in what and not what.get("description")
    ]
    assert silent == []


def test_errors_are_problems_and_never_the_form_of_the_framework(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if name.split()[1].startswith("/v1/") and status.startswith(("4", "5")):
                assert answer["content"], (name, status)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            for key, value in part.items():
                if key == "$ref":
                    yield value
                else:
                    yield from references(value)
        elif isinstance(part, list):
            for one in part:
                yield from references(one)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
