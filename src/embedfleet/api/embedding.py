"""Embeds the texts of one request: limits, usage, the model, and the headers of the answer.

The routes of OpenAI, TEI and Cohere differ in how they say what is to be embedded, and how they answer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from embedfleet.api.access import Principal
from embedfleet.api.parts import ApiParts
from embedfleet.errors import EmbedfleetError, InvalidRequest, Transient
from embedfleet.inference.backend import ModelInfo, Role, TokenBatch
from embedfleet.interactive.embedder import Embedded
from embedfleet.lifecycle.text_admission import Admitted
from embedfleet.quota import Amount
from embedfleet.records.usage import Line
from embedfleet.tokenising import cut, tokenised
from embedfleet.waiting import cancel_and_wait

# The roles by the names that clients use for them: of OpenAI-like servers, TEI, Cohere, Jina and E5. What is
# neither a query nor a document is compared with its like, as documents are.
_ROLES: dict[str, Role] = {
    "query": "query",
    "search_query": "query",
    "retrieval.query": "query",
    "retrieval_query": "query",
    "question": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "retrieval.passage": "document",
    "retrieval_document": "document",
    "text-matching": "document",
    "clustering": "document",
    "separation": "document",
    "classification": "document",
    "semantic_similarity": "document",
}

Texts = Sequence[str] | Sequence[Sequence[int]]
"""Texts as strings, or as token ids."""


class ClientGone(Exception):
    """The client has closed its connection, so no answer is needed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants to have embedded.

    `field` names the texts in messages. `dimensions`: the length of the vectors; None: the model's own.
    `truncate`: texts that are too long are cut; otherwise they are refused.
    """

    model: str
    texts: Texts
    field: str
    role: Role = "document"
    dimensions: int | None = None
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class Vectors:
    """`vectors`: float32 (n, dim). `tokens` are those of all texts, by the model's own tokenizer."""

    vectors: NDArray[np.float32]
    tokens: int
    headers: dict[str, str]


def role_named(name: str | None, field: str) -> Role:
    """Return the role of this name: document without one. Raises InvalidRequest."""
    if name is None:
        return "document"
    role = _ROLES.get(name.lower())
    if role is None:
        raise InvalidRequest(
            f"{field}: `{name}` is not known: give one of {', '.join(sorted(_ROLES))}", field=field
        )
    return role


def texts_in(value: Any) -> Texts:
    """Return the texts that an `input` holds: a string, strings, token ids, or lists of them.

    Raises ValueError, which says where it is wrong.
    """
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text or a list of texts, and not empty")
    if all(isinstance(one, str) for one in value):
        for at, text in enumerate(value):
            _require_text(text, at)
        return value
    if all(_is_id(one) for one in value):
        return [value]
    for at, ids in enumerate(value):
        if not (isinstance(ids, list) and ids and all(_is_id(one) for one in ids)):
            raise ValueError(
                f"[{at}] must be a text, as the others, or a list of token ids that is not empty"
            )
    return value


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_text(text: str, at: int) -> None:
    if not text:
        raise ValueError(f"[{at}] is an empty text: leave it out")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(f"[{at}] has a lone surrogate at character {exc.start}: it is not text") from exc


async def embed_texts(request: Request, parts: ApiParts, caller: Principal, asked: Asked) -> Vectors:
    """Embed the texts for the caller.

    Raises InvalidRequest and UnknownModel for what was asked, QuotaExceeded, Transient and ModelError as
    `TextEmbedder.embed` does, and ClientGone. A request that fails costs the tenant nothing.
    """
    started = perf_counter()
    info = await parts.embedder.info(asked.model)
    shorten = _shortening(info, asked.dimensions)
    most = parts.settings.http.max_embedding_inputs
    if len(asked.texts) > most:
        raise InvalidRequest(
            f"{asked.field}: {len(asked.texts):,} texts, a request may have {most:,}: send several",
            field=asked.field,
        )
    batch = await _tokenised(info, asked)
    tokens = int(batch.lengths.sum())
    _require_within_limits(parts, info, asked, batch)
    tokenised_at = perf_counter()
    chars, size = _sizes(asked.texts)
    amount = Amount(texts=len(batch), chars=chars, bytes=size, tokens=tokens)
    admitted = await parts.texts.admit(Line(caller.tenant, info.name, caller.key), amount)
    try:
        embedded = await _unless_gone(request, _embed(parts, info, batch, caller.tenant))
        _require_all(embedded, asked.field)
    except EmbedfleetError:
        with suppress(Transient):  # then the tenant has paid for a request that failed, and the log tells why
            await parts.texts.give_back(admitted)
        raise
    seconds = perf_counter() - started
    headers = {
        "x-total-time": _milliseconds(seconds),
        "x-tokenization-time": _milliseconds(tokenised_at - started),
        "x-queue-time": _milliseconds(embedded.queue_seconds),
        "x-inference-time": _milliseconds(embedded.inference_seconds),
        "x-compute-tokens": str(tokens),
        "x-compute-characters": str(chars),
        **_token_limit(admitted),
    }
    return Vectors(shorten(embedded.vectors), tokens, headers)


async def _embed(parts: ApiParts, info: ModelInfo, batch: TokenBatch, tenant: str) -> Embedded:
    seconds = parts.settings.http.embedding_timeout_seconds
    return await parts.embedder.embed(info, batch, tenant=tenant, timeout_seconds=seconds)


def _shortening(info: ModelInfo, dimensions: int | None) -> Any:
    """Return the function that makes vectors of this length. Raises InvalidRequest."""
    if dimensions in (None, info.dim):
        return lambda vectors: vectors
    if dimensions > info.dim:
        raise InvalidRequest(
            f"dimensions: {dimensions} is more than model `{info.name}` has: ask for at most {info.dim}",
            field="dimensions",
        )
    if not info.matryoshka:
        raise InvalidRequest(
            f"dimensions: model `{info.name}` was not trained for fewer than {info.dim}: ask for {info.dim}, "
            "or leave it out",
            field="dimensions",
        )

    def shorten(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        kept = vectors[:, :dimensions]
        norms = np.linalg.norm(kept, axis=1, keepdims=True)
        return np.ascontiguousarray(kept / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)

    return shorten


async def _tokenised(info: ModelInfo, asked: Asked) -> TokenBatch:
    if not isinstance(asked.texts[0], str):
        return _batch_of_ids(info, asked)
    # The tokenizer for documents: it is the faster one, and a server is asked often.
    batch = replace(await asyncio.to_thread(tokenised, asked.texts, info), role=asked.role)  # type: ignore[arg-type]
    return cut(batch, info) if asked.truncate else batch


def _batch_of_ids(info: ModelInfo, asked: Asked) -> TokenBatch:
    """Return token ids as a batch. Raises InvalidRequest unless they are of the model's tokenizer."""
    if not info.accepts_ids_below:
        raise InvalidRequest(
            f"{asked.field}: token ids of another tokenizer would mean other words to model `{info.name}`: "
            "send texts (LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))",
            field=asked.field,
        )
    for at, ids in enumerate(asked.texts):
        # Before they are an array: a number may be too large for one.
        if not all(isinstance(one, int) and 0 <= one < info.accepts_ids_below for one in ids):
            raise InvalidRequest(
                f"{asked.field}[{at}]: token ids of model `{info.name}` are below {info.accepts_ids_below}: "
                "use its tokenizer, or send texts",
                field=asked.field,
            )
    lengths = np.array([len(ids) for ids in asked.texts], dtype=np.int64)
    arrays = [np.array(ids, dtype=np.uint32) for ids in asked.texts]
    return TokenBatch(np.concatenate(arrays), lengths, None, asked.role)


def _require_within_limits(parts: ApiParts, info: ModelInfo, asked: Asked, batch: TokenBatch) -> None:
    longest = int(batch.lengths.argmax())
    if batch.lengths[longest] > info.max_tokens:
        raise InvalidRequest(
            f"{asked.field}[{longest}]: the text has {batch.lengths[longest]:,} tokens, model `{info.name}` "
            f"takes {info.max_tokens:,}: cut it into shorter ones",
            field=asked.field,
        )
    tokens, most = int(batch.lengths.sum()), parts.settings.http.max_embedding_tokens
    if tokens > most:
        raise InvalidRequest(
            f"{asked.field}: {tokens:,} tokens, a request may have {most:,}: send several",
            field=asked.field,
        )


def _require_all(embedded: Embedded, field: str) -> None:
    for at, reason in sorted(embedded.failed.items()):
        raise InvalidRequest(f"{field}[{at}]: the model gives no vector: {reason}", field=field)


def _sizes(texts: Texts) -> tuple[int, int]:
    """Return the characters of the texts, and their bytes in UTF-8. Token ids have none."""
    strings = [text for text in texts if isinstance(text, str)]
    return sum(map(len, strings)), sum(len(text.encode()) for text in strings)


def _milliseconds(seconds: float) -> str:
    return str(math.ceil(seconds * 1000))


def _token_limit(admitted: Admitted) -> dict[str, str]:
    if admitted.limit is None:
        return {}
    return {
        "x-ratelimit-limit-tokens": str(admitted.limit),
        "x-ratelimit-remaining-tokens": str(admitted.remaining),
        "x-ratelimit-reset-tokens": f"{math.ceil(admitted.reset_seconds)}s",
    }


async def _unless_gone(request: Request, work: Any) -> Any:
    """Do the work and return its result. Cancel it and raise ClientGone if the client goes before."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_until_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await cancel_and_wait(working, leaving)


async def _until_gone(request: Request) -> None:
    """Return when the client has closed the connection. The body of the request has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
