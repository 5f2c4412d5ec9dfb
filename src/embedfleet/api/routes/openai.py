"""The API of OpenAI for embeddings, exactly: its clients work unmodified with another base URL."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import to_json

from embedfleet.api.access import Parts, Reader
from embedfleet.api.embedding import Asked, Texts, Vectors, embed_texts, role_named, texts_in
from embedfleet.api.problems import Problem
from embedfleet.api.shapes import responses_in_shape, shaped_route
from embedfleet.errors import InvalidRequest, ModelError


class OpenAiErrorDetail(BaseModel):
    """Why a request was refused or failed."""

    message: str = Field(description="What was wrong, where, and what to do: one line.")
    type: str = Field(description="The kind of error, by OpenAI's names.")
    param: str | None = Field(description="The wrong field, if one is wrong.")
    code: str | None = Field(description="The exact error, by OpenAI's names.")


class OpenAiError(BaseModel):
    """An error as OpenAI describes it."""

    error: OpenAiErrorDetail


# The type and the code of each status. All else is of the server.
_KINDS: dict[int, tuple[str, str | None]] = {
    HTTPStatus.BAD_REQUEST: ("invalid_request_error", None),
    HTTPStatus.UNAUTHORIZED: ("invalid_request_error", "invalid_api_key"),
    HTTPStatus.FORBIDDEN: ("invalid_request_error", "insufficient_permissions"),
    HTTPStatus.NOT_FOUND: ("invalid_request_error", "model_not_found"),
    HTTPStatus.REQUEST_TIMEOUT: ("invalid_request_error", "request_timeout"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("invalid_request_error", "request_too_large"),
    HTTPStatus.TOO_MANY_REQUESTS: ("tokens", "rate_limit_exceeded"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("server_error", "service_unavailable"),
}


def _error(problem: Problem) -> OpenAiError:
    if problem.type == "UnknownModel":
        problem.status = HTTPStatus.NOT_FOUND
    kind, code = _KINDS.get(problem.status, ("server_error", None))
    if problem.limit_name == "requests_per_minute":
        kind = "requests"
    param = problem.field.partition(".")[0] if problem.field else None
    detail = OpenAiErrorDetail(message=problem.detail, type=kind, param=param, code=code)
    return OpenAiError(error=detail)


router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=shaped_route(_error))

_TEXT_OR_IDS: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        },
    ],
    "description": "A text, texts, the token ids of a text, or those of several. Ids are taken only by a "
    "model whose settings say that they are of its tokenizer.",
}


class EmbeddingsRequest(BaseModel):
    """Texts to be embedded now. They are not stored."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=256, description="The name of a model: `GET /v1/models` lists them.")
    input: Annotated[Any, AfterValidator(texts_in), WithJsonSchema(_TEXT_OR_IDS)]
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None,
        description="float without it. base64: little-endian float32, which is a third of the size.",
    )
    dimensions: int | None = Field(
        default=None, ge=1, description="The length of the vectors, for models that allow fewer than theirs."
    )
    input_type: str | None = Field(
        default=None,
        max_length=64,
        description="query or document (also search_query, passage and the like): some models embed them "
        "differently. Without it: document.",
    )
    task: str | None = Field(default=None, max_length=64, description="Another name of input_type.")
    prompt_name: str | None = Field(default=None, max_length=64, description="Another name of input_type.")
    user: str | None = Field(default=None, description="Ignored.")

    def asked(self) -> Asked:
        """Return what is to be embedded. Raises InvalidRequest."""
        named = {name: getattr(self, name) for name in ("input_type", "task", "prompt_name")}
        given = {name: value for name, value in named.items() if value is not None}
        roles = {role_named(value, name) for name, value in given.items()}
        if len(roles) > 1:
            raise InvalidRequest(f"{', '.join(given)} contradict each other: give one", field="input_type")
        texts: Texts = self.input
        role = roles.pop() if roles else "document"
        return Asked(self.model, texts, "input", role=role, dimensions=self.dimensions)


class OpenAiEmbedding(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(description="The position of the text in the input.")
    embedding: list[float] | str = Field(description="Numbers, or base64 if that was asked for.")


class OpenAiUsage(BaseModel):
    """What the request cost, as the model's own tokenizer counts."""

    prompt_tokens: int
    total_tokens: int


class OpenAiEmbeddings(BaseModel):
    """The vectors of a request, in the order of its texts."""

    object: Literal["list"] = "list"
    data: list[OpenAiEmbedding]
    model: str = Field(description="The name of the model.")
    usage: OpenAiUsage


class OpenAiModel(BaseModel):
    """A model of the catalogue."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = "model"
    created: int = Field(default=0, description="Always 0: it is not known.")
    owned_by: str = "embedfleet"
    description: str = ""
    available: bool = Field(description="False: its files are missing or wrong.")
    is_default: bool = Field(description="Whether jobs take it that name none.")
    dimensions: int | None = Field(default=None, description="The length of its vectors.")
    max_tokens: int | None = Field(default=None, description="The longest text that it takes.")
    matryoshka: bool = Field(default=False, description="Whether requests may ask for fewer dimensions.")


class OpenAiModels(BaseModel):
    """The models of the catalogue."""

    object: Literal["list"] = "list"
    data: list[OpenAiModel]


@router.post(
    "/embeddings",
    response_model=OpenAiEmbeddings,
    responses=responses_in_shape(OpenAiError, HTTPStatus.NOT_FOUND),
)
async def create_embeddings(
    request: Request, parts: Parts, caller: Reader, body: EmbeddingsRequest
) -> Response:
    """Embed texts now, before documents that wait. The tokens count for the tenant's limits.

    Headers say how long it took, in milliseconds: `x-queue-time`, `x-inference-time`, `x-total-time`.
    """
    vectors = await embed_texts(request, parts, caller, body.asked())
    content = _written(vectors, body.model, as_base64=body.encoding_format == "base64")
    return Response(content, media_type="application/json", headers=vectors.headers)


def _written(vectors: Vectors, model: str, *, as_base64: bool) -> bytes:
    """Return the JSON of an answer. It is `OpenAiEmbeddings`, written without a model of each number."""
    rows = (
        [base64.b64encode(row).decode("ascii") for row in vectors.vectors.astype("<f4", copy=False)]
        if as_base64
        else vectors.vectors.tolist()
    )
    return to_json(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows)],
            "model": model,
            "usage": {"prompt_tokens": vectors.tokens, "total_tokens": vectors.tokens},
        }
    )


@router.get("/models", responses=responses_in_shape(OpenAiError))
async def list_models(parts: Parts, caller: Reader) -> OpenAiModels:
    """The models of the catalogue, by name."""
    return OpenAiModels(data=[await _model(parts, name) for name in parts.embedder.known_models])


@router.get("/models/{model}", responses=responses_in_shape(OpenAiError, HTTPStatus.NOT_FOUND))
async def get_model(
    parts: Parts, caller: Reader, model: Annotated[str, Path(description="Its name.", max_length=256)]
) -> OpenAiModel:
    """One model of the catalogue."""
    parts.embedder.require_known(model)
    return await _model(parts, model)


async def _model(parts: Parts, name: str) -> OpenAiModel:
    is_default = name == parts.settings.models.default
    try:
        info = await parts.embedder.info(name)
    except ModelError:
        return OpenAiModel(id=name, available=False, is_default=is_default)
    return OpenAiModel(
        id=name,
        description=info.description,
        available=True,
        is_default=is_default,
        dimensions=info.dim,
        max_tokens=info.max_tokens,
        matryoshka=info.matryoshka,
    )
