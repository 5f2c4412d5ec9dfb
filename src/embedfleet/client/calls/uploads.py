"""Submits files, which the server reads, and many texts at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedfleet.client.calls.reading import record
from embedfleet.client.problems import described
from embedfleet.client.steps import Ask, FileBody, Steps
from embedfleet.errors import EmbedfleetError, InvalidRequest, ServerUnavailable
from embedfleet.queue_schemas import ChunkingConfig, DocumentEstimate, Estimate

# A request with an idempotency key is worked on when all of it has come: it has to be short.
_BULK_LINES = 500
_BULK_BYTES = 4 * 1024 * 1024
_LONGEST_NAME = 1_024


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The job of a file. `unreadable` says why the file could not be read; then the job has failed."""

    job_id: str
    unreadable: str | None = None


def upload(
    file: str | os.PathLike[str] | bytes,
    *,
    media_id: int | str,
    name: str | None = None,
    chunking_config: ChunkingConfig | None = None,
    priority: int = 50,
    model: str | None = None,
    source: str | None = None,
    title: str | None = None,
    strict: bool = False,
    metadata: Mapping[str, Any] | None = None,
    keep_unreadable: bool = False,
) -> Steps[Uploaded]:
    """Submit a file of any known format, as `create_job_from_file`; with more wishes.

    With `keep_unreadable`, a file that cannot be read, or of which content would be lost against the wish of
    `strict`, gets a failed job that says so.
    """
    said = {
        "media_id": media_id,
        "chunking_config": None if chunking_config is None else chunking_config.model_dump_json(),
        "priority": priority,
        "model": model,
        "source": source or (None if name or isinstance(file, bytes) else os.fspath(file)),
        "title": title,
        "strict": strict,
        "metadata": None if metadata is None else json.dumps(dict(metadata)),
        "keep_unreadable": keep_unreadable or None,
    }
    response = yield _with_file("/v1/jobs:upload", file, name, said).once()
    answer = response.json()
    return Uploaded(answer["job_id"], answer.get("unreadable"))


def estimate_upload(
    file: str | os.PathLike[str] | bytes,
    *,
    media_id: int | str,
    name: str | None = None,
    chunking_config: ChunkingConfig | None = None,
    model: str | None = None,
    strict: bool = False,
    cut: bool = True,
) -> Steps[DocumentEstimate]:
    """Say what a file would cost if it were submitted now. Nothing is kept of it.

    Without `cut`, only what would be charged is told, which takes far less time. Raises ParseError if the
    file cannot be turned into text, InvalidRequest, UnknownModel, OSError.
    """
    said = {
        "media_id": media_id,
        "chunking_config": None if chunking_config is None else chunking_config.model_dump_json(),
        "model": model,
        "strict": strict,
        "cut": cut,
    }
    ask = replace(_with_file("/v1/jobs:estimate_upload", file, name, said), repeats=True)
    return record(DocumentEstimate, (yield ask))


def _with_file(
    path: str, file: str | os.PathLike[str] | bytes, name: str | None, said: Mapping[str, Any]
) -> Ask:
    named = name or (None if isinstance(file, bytes) else os.fspath(file))
    if named is None:
        raise InvalidRequest(
            "name: is missing: the bytes of a file need one, such as `report.pdf`", field="name"
        )
    body = file if isinstance(file, bytes) else FileBody(Path(file))
    headers = {"Content-Type": "application/octet-stream"}
    # The server takes names up to this length. The end of a longer path still gives the format.
    params = {"name": named[-_LONGEST_NAME:], **said}
    return Ask("POST", path, params=params, body=body, headers=headers)


def create_job_from_file(
    file: str | os.PathLike[str] | bytes,
    *,
    media_id: int | str,
    name: str | None = None,
    chunking_config: ChunkingConfig | None = None,
    priority: int = 50,
    model: str | None = None,
    source: str | None = None,
    title: str | None = None,
    strict: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Steps[str]:
    """Submit a file of any known format, such as PDF, DOCX or HTML, and return the job's id.

    `file` is a path, which is sent in pieces, or the bytes of a file. The suffix of `name` gives the format;
    a path needs no name. It is submitted once, however often the request must be sent. Raises ParseError if
    the file cannot be turned into text, InvalidRequest, UnknownModel, QuotaExceeded, OSError.
    """
    made = yield from upload(
        file,
        media_id=media_id,
        name=name,
        chunking_config=chunking_config,
        priority=priority,
        model=model,
        source=source,
        title=title,
        strict=strict,
        metadata=metadata,
    )
    return made.job_id


def create_each(documents: Sequence[Mapping[str, Any]]) -> Steps[list[str | EmbedfleetError]]:
    """Submit many texts, each for itself. Returns for each, in order, the id of its job or its error.

    A document has the names that `create_job` takes, such as `media_id` and `content`; a value is as in JSON.
    Each is submitted once, however often a request must be sent. Raises ServerUnavailable if the answer is
    cut off.
    """
    made: list[str | EmbedfleetError] = []
    for lines in _requests(documents):
        headers = {"Content-Type": "application/x-ndjson"}
        ask = Ask("POST", "/v1/jobs:bulk", body=b"\n".join(lines), headers=headers).once()
        answers = [json.loads(line) for line in (yield ask).content.splitlines() if line]
        told = [one for one in answers if "line" in one]
        if len(told) != len(lines):
            raise _cut_off(answers)
        made += [one["job_id"] if one.get("error") is None else described(one["error"]) for one in told]
    return made


def _requests(documents: Sequence[Mapping[str, Any]]) -> Iterator[list[bytes]]:
    """Split the documents into requests: lines of JSON, up to a number and a size."""
    lines: list[bytes] = []
    size = 0
    for document in documents:
        line = json.dumps(dict(document)).encode()
        if lines and (len(lines) == _BULK_LINES or size + len(line) > _BULK_BYTES):
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield lines


def _cut_off(answers: Sequence[Mapping[str, Any]]) -> EmbedfleetError:
    error = answers[-1].get("error") if answers else None
    return (
        described(error)
        if error
        else ServerUnavailable("the answer to many documents was cut off: try again")
    )


def estimate(
    documents: Sequence[Mapping[str, Any]],
) -> Steps[tuple[list[DocumentEstimate], Estimate]]:
    """Say what texts would cost if they were submitted now: for each, in order, and their sums.

    A document has the names that `create_job` takes. Nothing is written. Raises UnknownModel, InvalidRequest.
    """
    body = {"documents": [dict(one) for one in documents]}
    answer = (yield Ask("POST", "/v1/jobs:estimate", json=body, repeats=True)).json()
    found = [DocumentEstimate.model_validate(one, extra="ignore") for one in answer["documents"]]
    return found, Estimate.model_validate(answer["estimate"], extra="ignore")


def sum_of_estimates(estimates: Sequence[DocumentEstimate]) -> Steps[Estimate]:
    """Return the sums, with the time that the workers would take at their present rate."""
    body = {"documents": [one.json_document() for one in estimates]}
    return record(Estimate, (yield Ask("POST", "/v1/jobs:sum_estimates", json=body, repeats=True)))
