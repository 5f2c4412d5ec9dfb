"""Documents: look, read, describe, delete; receipts of deletions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from embedfleet.client.calls.listing import every_one, listed
from embedfleet.client.calls.reading import document, instant, page, record, segment
from embedfleet.client.steps import Ask, Flow, Pause, Steps
from embedfleet.document_filter import DocumentFilter
from embedfleet.errors import InvalidRequest, UnknownDocument
from embedfleet.paging import pages
from embedfleet.queue_schemas import ChunkInfo, DocumentInfo, DocumentText, Receipt, ReceiptState
from embedfleet.records.cursors import Page

_MOST = 1_000  # documents that one request may name
_FIRST_LOOK_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


def list_documents(
    *,
    prefix: str = "",
    matching: DocumentFilter | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Steps[Page[DocumentInfo]]:
    """Return up to `limit` documents that are not deleted, by tenant and media id.

    With `prefix`, only those whose source starts with it, and with `matching` only those that it means. For
    the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
    """
    params = _chosen(prefix, matching)
    path, name = "/v1/documents", "documents"
    return (yield from listed(DocumentInfo, path, name, limit=limit, after=after, params=params))


def all_documents(*, prefix: str = "", matching: DocumentFilter | None = None) -> Flow[DocumentInfo]:
    """Give all documents of `list_documents`, page by page."""
    return every_one(DocumentInfo, "/v1/documents", "documents", params=_chosen(prefix, matching))


def _chosen(prefix: str, matching: DocumentFilter | None) -> dict[str, Any]:
    """Return the parameters that choose documents."""
    chosen = matching or DocumentFilter()
    if prefix and chosen.source is not None:
        raise InvalidRequest("prefix: the filter names a source too: give one of the two", field="prefix")
    return {
        "prefix": prefix or chosen.source,
        "where": None if chosen.where is None else json.dumps(chosen.where),
        "media_id": None if chosen.media_ids is None else list(chosen.media_ids),
        "created_after": instant(chosen.created_after),
        "created_before": instant(chosen.created_before),
    }


def get_document(*, media_id: int | str) -> Steps[DocumentInfo]:
    """Return the document. Raises UnknownDocument."""
    return record(DocumentInfo, (yield Ask("GET", f"/v1/documents/{segment(media_id)}")))


def read_text(*, media_id: int | str, start: int = 0, end: int | None = None) -> Steps[DocumentText]:
    """Return the characters [start, end) of the document's text, as far as it goes; a million at most.

    Raises UnknownDocument, and InvalidRequest for a range that is none.
    """
    params = {"start": start, "end": end}
    return record(DocumentText, (yield Ask("GET", f"/v1/texts/{segment(media_id)}", params=params)))


def list_chunks(
    *, media_id: int | str, limit: int = 100, after: str | None = None, with_text: bool = False
) -> Steps[Page[ChunkInfo]]:
    """Return up to `limit` chunks of the document, in order; with their texts on request.

    Raises UnknownDocument. Raises InvalidRequest if the document has a newer version since the page before.
    """
    params = {"limit": limit, "after": after, "text": with_text}
    return page(ChunkInfo, (yield Ask("GET", f"/v1/chunks/{segment(media_id)}", params=params)), "chunks")


def set_metadata(*, media_id: int | str, patch: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """Change metadata of a document, and return all of it. None removes a name. Nothing is embedded.

    Raises UnknownDocument, InvalidRequest.
    """
    path = f"/v1/documents/{segment(media_id)}"
    response = yield Ask("PATCH", path, json={"metadata": dict(patch)}, repeats=True)
    metadata: dict[str, Any] = response.json()["metadata"]
    return metadata


def delete_document(*, media_id: int | str) -> Steps[str | None]:
    """Hide the document at once and request its deletion. Return the receipt's id; None if there is none."""
    try:
        response = yield Ask("DELETE", f"/v1/documents/{segment(media_id)}")
    except UnknownDocument:
        return None
    receipt_id: str = response.json()["receipt_id"]
    return receipt_id


def delete_documents(*, matching: DocumentFilter) -> Steps[dict[str, str]]:
    """Delete the documents that the filter means. Return the ids of the receipts, by media id.

    Raises InvalidRequest for a filter that leaves nothing out. After an error some are deleted: repeat it.
    """
    response = yield Ask("POST", "/v1/documents:delete", json=document(matching))
    return {one["media_id"]: one["receipt_id"] for one in response.json()["deletions"]}


def receipt(receipt_id: str) -> Steps[Receipt]:
    """Return a receipt of a deletion as it is now. Raises UnknownReceipt."""
    return record(Receipt, (yield Ask("GET", f"/v1/receipts/{segment(receipt_id)}")))


def list_receipts(*, limit: int = 100, after: str | None = None) -> Steps[Page[Receipt]]:
    """Return up to `limit` receipts of deletions, newest first."""
    return (yield from listed(Receipt, "/v1/receipts", "receipts", limit=limit, after=after))


def searched_receipt(receipt_id: str) -> Steps[Receipt]:
    """Return the receipt as soon as the deletion is done and was searched for what is left.

    Raises UnknownReceipt.
    """
    pause = _FIRST_LOOK_SECONDS
    while True:
        found = yield from receipt(receipt_id)
        if found.state is not ReceiptState.PENDING:
            return found
        yield Pause(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def models_of(media_ids: Sequence[str]) -> Steps[dict[str, str]]:
    """Return, by media id, the model of the version that readers see or that is being made.

    A document without such a version is left out.
    """
    models: dict[str, str] = {}
    for some in pages(media_ids, _MOST):
        response = yield Ask("POST", "/v1/documents:models", json={"media_ids": list(some)}, repeats=True)
        models |= response.json()["models"]
    return models


def replace_metadata(metadata: Mapping[str, Mapping[str, Any]]) -> Steps[set[str]]:
    """Give documents this metadata, by media id, in place of all that they have.

    Returns the media ids of those that exist. Nothing is embedded.
    """
    changed: set[str] = set()
    for some in pages(list(metadata.items()), _MOST):
        body = {"metadata": {media_id: dict(one) for media_id, one in some}}
        response = yield Ask("POST", "/v1/documents:describe", json=body, repeats=True)
        changed |= set(response.json()["media_ids"])
    return changed
