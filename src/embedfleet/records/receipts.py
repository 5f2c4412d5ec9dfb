"""Receipts of deletions: what there was, and what the searches after the deletion found.

A receipt is open until its document (or tenant) is gone from every place and was searched again there. The
rows outlive what they tell of.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Float, Row, bindparam, insert, or_, select, update

from embedfleet.clock import utc
from embedfleet.queue_schemas import BackupFile, Receipt, ReceiptState
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.scope import Scope
from embedfleet.sql.paging import key_pages
from embedfleet.sql.tables import documents, receipts

_LISTING = Listing("receipts", (float, str))


@dataclass(frozen=True, slots=True)
class Findings:
    """What a receipt knows, beside its columns.

    `since`: when the document was made, Unix seconds. `job_ids`, `generation_ids` and `spaces` are what the
    search needs: they are dropped when the receipt is finished. `held`, `left` and `kept` are numbers by
    place; `left` and `searched_at` are of the last search, and None before the first. `backups`: (file, when
    it was written) of those that may hold it.
    """

    since: float
    held: Mapping[str, int]
    job_ids: Sequence[str] = ()
    generation_ids: Sequence[int] = ()
    spaces: Sequence[tuple[str, int]] = ()
    left: Mapping[str, int] | None = None
    kept: Mapping[str, int] = field(default_factory=dict)
    searched_at: float | None = None
    submitted_again: bool = False
    backups: Sequence[tuple[str, float]] = ()
    beyond: Mapping[str, str] = field(default_factory=dict)

    def written(self) -> str:
        """Return the JSON of a row."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> Findings:
        """Return what `written` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A row of `receipts`. `media_id` and `document_id` are None for a whole tenant."""

    receipt_id: str
    tenant: str
    media_id: str | None
    document_id: str | None
    requested_at: float
    finished_at: float | None
    findings: Findings


@dataclass(frozen=True, slots=True)
class NewReceipt:
    """A receipt to write. `media_id` and `document_id` are None for a whole tenant."""

    tenant: str
    media_id: str | None
    document_id: str | None
    findings: Findings


def add(conn: Connection, new: Sequence[NewReceipt], now: float) -> dict[str, str]:
    """Write open receipts and return their ids, by document id. That of a tenant is by the tenant's name."""
    ids = {one.document_id or one.tenant: f"rcp_{int(now * 1000):012x}{secrets.token_hex(10)}" for one in new}
    rows = [
        {
            "receipt_id": ids[one.document_id or one.tenant],
            "tenant": one.tenant,
            "media_id": one.media_id,
            "document_id": one.document_id,
            "requested_at": now,
            "findings": one.findings.written(),
        }
        for one in new
    ]
    if rows:
        conn.execute(insert(receipts), rows)
    return ids


def get(conn: Connection, scope: Scope, receipt_id: str) -> Receipt | None:
    """Return the receipt; None if there is none within the scope."""
    query = select(receipts).where(receipts.c.receipt_id == receipt_id, scope.rows(receipts.c.tenant))
    row = conn.execute(query).one_or_none()
    return None if row is None else _receipt(_row(row))


def deleted_of(conn: Connection, tenants: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the ids of documents of these tenants that were ever deleted, and the tenants that were."""
    deleted: set[str] = set()
    gone: set[str] = set()
    for names in key_pages(tenants):
        query = select(receipts.c.tenant, receipts.c.document_id).where(receipts.c.tenant.in_(names))
        for row in conn.execute(query):
            if row.document_id is None:
                gone.add(row.tenant)
            else:
                deleted.add(row.document_id)
    return deleted, gone


def page(conn: Connection, scope: Scope, *, limit: int, after: str | None) -> Page[Receipt]:
    """Return up to `limit` receipts within the scope, newest first."""
    query = select(receipts).where(scope.rows(receipts.c.tenant))
    query = query.order_by(receipts.c.requested_at.desc(), receipts.c.receipt_id).limit(limit + 1)
    if after is not None:
        at, receipt_id = _LISTING.key_after(after)
        # The first condition alone bounds the range of the index that is read.
        query = query.where(
            receipts.c.requested_at <= at,
            (receipts.c.requested_at < at) | (receipts.c.receipt_id > receipt_id),
        )
    found = [_row(row) for row in conn.execute(query)]
    shown = _LISTING.page(found, limit, lambda one: (one.requested_at, one.receipt_id))
    return Page(map(_receipt, shown), next_cursor=shown.next_cursor)


def open_of_tenants(conn: Connection, limit: int) -> list[ReceiptRow]:
    """Return up to `limit` open receipts of whole tenants, oldest first."""
    query = _OPEN.where(receipts.c.media_id.is_(None)).limit(limit)
    return [_row(row) for row in conn.execute(query)]


def ready_of_documents(conn: Connection, limit: int, *, leaving_out: Sequence[str] = ()) -> list[ReceiptRow]:
    """Return up to `limit` open receipts whose documents are gone, or were submitted again, oldest first."""
    settled = or_(
        documents.c.document_id.is_(None), documents.c.deleted_at.is_(None) & (documents.c.cleanup == 0)
    )
    query = _OPEN.outerjoin(documents, documents.c.document_id == receipts.c.document_id)
    query = query.where(receipts.c.media_id.is_not(None), receipts.c.receipt_id.not_in(leaving_out), settled)
    return [_row(row) for row in conn.execute(query.limit(limit))]


def any_open_of_tenant(conn: Connection, tenant: str) -> str | None:
    """Return the id of the open receipt of the whole tenant; None if it has none."""
    query = _OPEN.where(receipts.c.media_id.is_(None), receipts.c.tenant == tenant)
    row = conn.execute(query.limit(1)).first()
    return None if row is None else str(row.receipt_id)


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found for a receipt. `finished_at` is None if the receipt stays open."""

    receipt_id: str
    findings: Findings
    finished_at: float | None = None


def record(conn: Connection, searched: Sequence[Searched]) -> None:
    """Write what searches found. A finished receipt forgets the keys that the search needed.

    A receipt that another leader has finished stays as it is.
    """
    rows = []
    for one in searched:
        found = one.findings
        if one.finished_at is not None:
            found = replace(found, job_ids=(), generation_ids=(), spaces=())
        rows.append({"id": one.receipt_id, "found": found.written(), "finished": one.finished_at})
    if rows:
        conn.execute(_RECORD, rows)


_RECORD = (
    update(receipts)
    .where(receipts.c.receipt_id == bindparam("id"), receipts.c.finished_at.is_(None))
    .values(findings=bindparam("found"), finished_at=bindparam("finished", type_=Float))
)

_OPEN = select(receipts).where(receipts.c.finished_at.is_(None)).order_by(receipts.c.requested_at)


def _row(row: Row[Any]) -> ReceiptRow:
    return ReceiptRow(
        receipt_id=row.receipt_id,
        tenant=row.tenant,
        media_id=row.media_id,
        document_id=row.document_id,
        requested_at=row.requested_at,
        finished_at=row.finished_at,
        findings=Findings.of_json(row.findings),
    )


def _receipt(row: ReceiptRow) -> Receipt:
    found = row.findings
    return Receipt(
        receipt_id=row.receipt_id,
        tenant=row.tenant,
        media_id=row.media_id,
        state=_state(row),
        requested_at=utc(row.requested_at),
        searched_at=None if found.searched_at is None else utc(found.searched_at),
        finished_at=None if row.finished_at is None else utc(row.finished_at),
        held=dict(found.held),
        left=None if found.left is None else dict(found.left),
        kept=dict(found.kept),
        backups=tuple(BackupFile(file=file, written_at=utc(at)) for file, at in found.backups),
        beyond=dict(found.beyond),
    )


def _state(row: ReceiptRow) -> ReceiptState:
    if row.findings.submitted_again:
        return ReceiptState.SUBMITTED_AGAIN
    if row.finished_at is not None:
        return ReceiptState.ERASED
    return ReceiptState.PENDING if row.findings.left is None else ReceiptState.LEFT
