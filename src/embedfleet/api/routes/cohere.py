"""The route `/v2/embed` of Cohere, for clients that are made for it: texts only."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import to_json

from embedfleet.api.access import Parts, Reader
from embedfleet.api.embedding import Asked, embed_texts, role_named, texts_in
from embedfleet.api.problems import Problem
from embedfleet.api.shapes import responses_in_shape, shaped_route


class CohereError(BaseModel):
    """An error as Cohere describes it."""

    message: str = Field(description="What was wrong, where, and what to do: one line.")


def _error(problem: Problem) -> CohereError:
    if problem.type == "UnknownModel":
        problem.status = HTTPStatus.NOT_FOUND
    return CohereError(message=problem.detail)


router = APIRouter(prefix="/v2", tags=["Cohere"], route_class=shaped_route(_error))

EmbeddingType = Literal["float", "base64"]


class CohereRequest(BaseModel):
    """Texts to be embedded now."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=256, description="The name of a model: `GET /v1/models` lists them.")
    texts: Annotated[list[str], AfterValidator(texts_in), Field(min_length=1, description="The texts.")]
    input_type: Literal["search_document", "search_query", "classification", "clustering"] = Field(
        description="search_query for queries; the others are embedded as documents."
    )
    embedding_types: list[EmbeddingType] = Field(
        default=["float"], min_length=1, max_length=2, description="base64: little-endian float32."
    )
    output_dimension: int | None = Field(default=None, ge=1, description="As dimensions of /v1/embeddings.")
    truncate: Literal["NONE", "END"] = Field(
        default="END",
        description="END: texts that are too long are cut. NONE: they are refused.",
    )


class CohereVectors(BaseModel):
    """The vectors in the types that were asked for."""

    float_: list[list[float]] | None = Field(default=None, alias="float")
    base64: list[str] | None = None


class CohereMeta(BaseModel):
    """What the request cost."""

    api_version: dict[str, str]
    billed_units: dict[str, int]


class CohereEmbeddings(BaseModel):
    """The vectors of a request, in the order of its texts."""

    id: str
    embeddings: CohereVectors
    texts: list[str]
    meta: CohereMeta


@router.post(
    "/embed",
    response_model=CohereEmbeddings,
    responses=responses_in_shape(CohereError, HTTPStatus.NOT_FOUND),
)
async def embed(request: Request, parts: Parts, caller: Reader, body: CohereRequest) -> Response:
    """Embed texts now, as Cohere does."""
    asked = Asked(
        body.model,
        body.texts,
        "texts",
        role=role_named(body.input_type, "input_type"),
        dimensions=body.output_dimension,
        truncate=body.truncate == "END",
    )
    vectors = await embed_texts(request, parts, caller, asked)
    found: dict[str, Any] = {}
    if "float" in body.embedding_types:
        found["float"] = vectors.vectors.tolist()
    if "base64" in body.embedding_types:
        rows = vectors.vectors.astype("<f4", copy=False)
        found["base64"] = [base64.b64encode(row).decode("ascii") for row in rows]
    answer = {
        "id": str(uuid4()),
        "embeddings": found,
        "texts": body.texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": vectors.tokens}},
        "response_type": "embeddings_by_type",
    }
    return Response(to_json(answer), media_type="application/json", headers=vectors.headers)
