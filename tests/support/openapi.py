"""Looks at an OpenAPI document: its operations, their parameters and the fields of their bodies.

Tests derive their requests from it. So a route that is added is tried too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_METHODS = ("get", "put", "post", "delete", "patch")
_DEEPEST = 5
"""A schema may contain itself."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API. `body` is the schema of its JSON body; None without one."""

    method: str
    path: str
    about: Mapping[str, Any]
    body: Schema | None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def parameters(self, where: str) -> list[str]:
        """Return the names of its parameters that are in the `path`, the `query` or a `header`."""
        return [one["name"] for one in self.about.get("parameters", ()) if one["in"] == where]


class Api:
    """The operations of an OpenAPI document, and valid bodies of them."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def operations(self) -> Iterator[Operation]:
        """Yield all operations."""
        for path, methods in self._document["paths"].items():
            for method in _METHODS:
                if method in methods:
                    content = methods[method].get("requestBody", {}).get("content", {})
                    body = content.get("application/json", {}).get("schema")
                    yield Operation(method.upper(), path, methods[method], body)

    def sample(self, schema: Schema) -> Any:
        """Return a small value that the schema allows, with required fields only."""
        schema = self._resolved(schema)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        match schema.get("type"):
            case "object":
                fields = schema.get("properties", {})
                return {name: self.sample(fields[name]) for name in schema.get("required", ())}
            case "array":
                return [self.sample(schema["items"])]
            case "integer" | "number":
                return max(1, schema.get("minimum", 1))
            case "boolean":
                return False
            case _:
                return "2026-01-01T00:00:00Z" if schema.get("format") == "date-time" else "x"

    def fields(self, schema: Schema, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
        """Yield the ways to all fields, the inner ones too."""
        schema = self._resolved(schema)
        if len(path) > _DEEPEST:
            return
        for name, inner in schema.get("properties", {}).items():
            yield (*path, name)
            yield from self.fields(inner, (*path, name))
        if "items" in schema:
            yield (*path, 0)
            yield from self.fields(schema["items"], (*path, 0))

    def sample_with(self, schema: Schema, path: tuple[str | int, ...], value: Any) -> Any:
        """Return a value that the schema allows but for one field, which is this value."""
        if not path:
            return value
        schema = self._resolved(schema)
        first, rest = path[0], path[1:]
        if first == 0:
            return [self.sample_with(schema["items"], rest, value)]
        given = copy.copy(self.sample(schema))
        given[first] = self.sample_with(schema["properties"][first], rest, value)
        return given

    def _resolved(self, schema: Schema) -> Schema:
        """Return the schema that a reference names, or the first of alternatives that is not null."""
        while "$ref" in schema or "anyOf" in schema:
            if "$ref" in schema:
                schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            else:
                schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
        return schema
