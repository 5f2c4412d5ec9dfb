"""The route `/embed` of Hugging Face's text-embeddings-inference, for clients that are made for it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import to_json

from embedfleet.api.access import Parts, Reader
from embedfleet.api.embedding import Asked, embed_texts, role_named, texts_in
from embedfleet.api.problems import Problem
from embedfleet.api.shapes import responses_in_shape, shaped_route


class TeiError(BaseModel):
    """An error as text-embeddings-inference describes it."""

    error: str = Field(description="What was wrong, where, and what to do: one line.")
    error_type: Literal["Validation", "Overloaded", "Backend"]


def _error(problem: Problem) -> TeiError:
    if problem.status == HTTPStatus.TOO_MANY_REQUESTS:
        return TeiError(error=problem.detail, error_type="Overloaded")
    is_ours = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return TeiError(error=problem.detail, error_type="Backend" if is_ours else "Validation")


router = APIRouter(tags=["TEI"], route_class=shaped_route(_error))


class TeiRequest(BaseModel):
    """Texts to be embedded now, by the default model."""

    model_config = ConfigDict(extra="forbid")

    inputs: Annotated[
        Any,
        AfterValidator(texts_in),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
                ],
                "description": "A text, or texts.",
            }
        ),
    ]
    truncate: bool | None = Field(default=False, description="Cut texts that are too long.")
    truncation_direction: Literal["Right"] = Field(default="Right", description="Texts are cut at their end.")
    normalize: Literal[True] = Field(default=True, description="The vectors have length 1.")
    prompt_name: str | None = Field(
        default=None, max_length=64, description="query or document. Without it: document."
    )
    dimensions: int | None = Field(default=None, ge=1, description="As in /v1/embeddings.")


@router.post("/embed", response_model=list[list[float]], responses=responses_in_shape(TeiError))
async def embed(request: Request, parts: Parts, caller: Reader, body: TeiRequest) -> Response:
    """Embed texts now with the default model, as text-embeddings-inference does."""
    asked = Asked(
        parts.settings.models.default,
        body.inputs,
        "inputs",
        role=role_named(body.prompt_name, "prompt_name"),
        dimensions=body.dimensions,
        truncate=bool(body.truncate),
    )
    vectors = await embed_texts(request, parts, caller, asked)
    lengths = np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    rows = vectors.vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return Response(to_json(rows.tolist()), media_type="application/json", headers=vectors.headers)
