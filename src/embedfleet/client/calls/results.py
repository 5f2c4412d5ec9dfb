"""A job while it goes on: how far it is, and its chunks as they are stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedfleet.client.calls.reading import segment
from embedfleet.client.lines import EventReader
from embedfleet.client.steps import Ask, Flow, Give, NextLine, Open, Pause
from embedfleet.errors import ServerUnavailable
from embedfleet.progress import JobNow
from embedfleet.queue_schemas import ChunkInfo, JobEvent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A stream that is cut off is opened again after this pause. A server that stops takes some seconds to start.
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk that is stored. `vector`: float32 (dim,), of length 1; None if it was not asked for."""

    info: ChunkInfo
    vector: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class GivenUpChunk:
    """A chunk that could not be embedded. `start` and `end` are character offsets in the document's text."""

    chunk_index: int
    start: int
    end: int
    reason: str


def follow_job(job_id: str) -> Flow[JobNow | JobEvent]:
    """Give how far the job is, as it goes on, and last the event of its end.

    A job that is deleted with its document ends without an event. A stream that is cut off is opened again.
    Raises UnknownJob.
    """
    while True:
        headers = {"Accept": "text/event-stream"}
        yield Open(Ask("GET", f"/v1/jobs/{segment(job_id)}/events", headers=headers))
        reader = EventReader()
        while isinstance(line := (yield NextLine()), str):
            event = reader.take(line)
            if event is None:
                continue
            if event.name == "progress":
                yield Give([JobNow.model_validate_json(event.data, extra="ignore")])
            elif event.name == "ended":
                yield Give([JobEvent.model_validate_json(event.data, extra="ignore")])
                return
            elif event.name == "gone":
                return
        yield Pause(_PAUSE_SECONDS)


def results(
    job_id: str, *, vectors: bool = False, with_text: bool = True
) -> Flow[StoredChunk | GivenUpChunk]:
    """Give the chunks of a job as they are stored, each once; with their vectors on request.

    It ends when the job has ended and all its chunks were given. Raises ServerUnavailable if it is cut off:
    then ask again from the first chunk on. Raises UnknownJob.
    """
    params = {"vectors": "base64" if vectors else "none", "text": with_text}
    yield Open(Ask("GET", f"/v1/jobs/{segment(job_id)}/results", params=params))
    while isinstance(line := (yield NextLine()), str):
        told: dict[str, Any] = json.loads(line)
        match told.pop("kind"):
            case "chunk":
                yield Give([_chunk(told)])
            case "dead":
                yield Give([GivenUpChunk(**{name: told[name] for name in GivenUpChunk.__slots__})])
            case "end":
                return
            case "stopping":
                raise ServerUnavailable(f"the results of job {job_id} are not complete: {told['reason']}")
    raise ServerUnavailable(f"the results of job {job_id} were cut off: ask again")


def _chunk(told: Mapping[str, Any]) -> StoredChunk:
    import numpy as np

    packed = told.get("vector")
    vector = None if packed is None else np.frombuffer(base64.b64decode(packed), dtype="<f4")
    return StoredChunk(ChunkInfo.model_validate(told, extra="ignore"), vector)
