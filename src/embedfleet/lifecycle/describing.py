"""Changes the metadata of documents without embedding anything.

SQL is changed at once, so filters count by the new metadata. The rows of the vector store follow: they are
left without a description here, and a cleanup describes them again (`lifecycle.cleanup`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet import document_metadata
from embedfleet.document_metadata import Metadata
from embedfleet.records import chunks, document_cleanup, documents
from embedfleet.records import generations as generation_records
from embedfleet.sql import document_lock
from embedfleet.sql.states import GenerationState


@dataclass(frozen=True, slots=True)
class NewMetadata:
    """The metadata that a generation of this document gets, as JSON; None: none."""

    document_id: str
    written: str | None


def describe(conn: Connection, new: Mapping[int, NewMetadata]) -> None:
    """Give generations new metadata, by generation id. Their documents are locked."""
    if not new:
        return
    document_ids = sorted({one.document_id for one in new.values()})
    generation_records.set_metadata(conn, {generation_id: one.written for generation_id, one in new.items()})
    chunks.leave_undescribed(conn, document_ids, list(new))
    document_cleanup.count_patches(conn, document_ids)
    document_cleanup.request_cleanup(conn, document_ids)


def change(conn: Connection, wanted: Mapping[str, Callable[[Metadata], Metadata]]) -> dict[str, Metadata]:
    """Change the metadata of documents, by document id: `wanted` makes the new metadata from the old.

    It changes the version that readers see and one that is being made. Returns, by document id, the metadata
    of the newest of them. A document that has neither, or is deleted, is left out.
    """
    document_ids = sorted(wanted)
    document_lock.lock(conn, document_ids)
    deleted = documents.deleted_among(conn, document_ids)
    new: dict[int, NewMetadata] = {}
    newest: dict[str, Metadata] = {}
    for document_id, generations in generation_records.generations_of_many(conn, document_ids).items():
        for one in generations:
            if one.state is GenerationState.RETIRED or document_id in deleted:
                continue
            metadata = wanted[document_id](one.metadata)
            newest.setdefault(document_id, metadata)
            written = document_metadata.written(metadata)
            if written != one.written_metadata:
                new[one.generation_id] = NewMetadata(document_id, written)
    describe(conn, new)
    return newest
