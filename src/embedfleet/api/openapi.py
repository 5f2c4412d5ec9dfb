"""The OpenAPI document: what FastAPI writes, with the errors as this API answers them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from embedfleet.api.glossary import FIELDS
from embedfleet.api.problems import Problem

_OF_THE_FRAMEWORK = ("HTTPValidationError", "ValidationError")
_REFERENCES = "#/components/schemas/"


class DocumentedApi(FastAPI):
    """An application whose document names the problems that its routes answer with."""

    def openapi(self) -> dict[str, Any]:
        """Return the document. It is made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi())
        return self.openapi_schema


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    """Describe problems and fields, and leave out the framework's own form of an error: it is not sent."""
    schemas = document["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema()
    for name in _OF_THE_FRAMEWORK:
        schemas.pop(name, None)
    for schema in schemas.values():
        for name, field in schema.get("properties", {}).items():
            if "$ref" not in field and name in FIELDS:
                field.setdefault("description", FIELDS[name])
    for methods in document["paths"].values():
        for operation in methods.values():
            _drop_validation_error(operation["responses"])
    return document


def _drop_validation_error(responses: dict[str, Any]) -> None:
    content = responses.get("422", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    if schema.get("$ref") == _REFERENCES + _OF_THE_FRAMEWORK[0]:
        del responses["422"]
