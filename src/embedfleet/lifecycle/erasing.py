"""The SQL part of the deletion of a whole tenant. The leader's duty `erasure` takes the steps in this order:

1. It hides the tenant's documents page by page, which requests their cleanups.
2. It waits for the deletion workers to clean up after all of them.
3. It drops the rows that belong to no document.

Each step may be repeated. The keys of the tenant are revoked by the request, so no client submits more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from embedfleet.lifecycle import ending
from embedfleet.records import api_keys, documents, jobs, receipts, traces
from embedfleet.records.receipts import Findings, NewReceipt, ReceiptRow, Searched
from embedfleet.sql import document_lock

# Other units wait for this one, so it takes some hundredths of a second at most.
_HIDDEN_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class RequestedDeletion:
    """A deletion of a tenant. It is not new if it was under way before."""

    receipt_id: str
    is_new: bool


def request_tenant(conn: Connection, tenant: str, now: float) -> RequestedDeletion | None:
    """Revoke the tenant's keys, and request the deletion of all it has.

    Return None if SQL has nothing of the tenant but evidence of what there was.
    """
    held = traces.rows_of_tenant(conn, tenant)
    evidence = {table.name for table in traces.KEPT}
    under_way = receipts.any_open_of_tenant(conn, tenant)
    if under_way is not None:
        return RequestedDeletion(under_way, is_new=False)
    revoked = api_keys.revoke_all_of_tenant(conn, tenant, now)
    if not revoked and not any(count for place, count in held.items() if place not in evidence):
        return None
    since = documents.oldest_of_tenant(conn, tenant)
    findings = Findings(
        since=now if since is None else since,
        held={place: count for place, count in held.items() if place not in evidence},
    )
    made = receipts.add(conn, [NewReceipt(tenant, None, None, findings)], now)
    return RequestedDeletion(made[tenant], is_new=True)


def hide_some(conn: Connection, row: ReceiptRow, now: float) -> ReceiptRow | None:
    """Hide some of the tenant's documents that were there at the request. Return None if none is left.

    Otherwise return the receipt, which has the ids of their unfinished jobs, because the broker may know
    these.
    """
    found = documents.not_deleted_of_tenant(conn, row.tenant, _HIDDEN_AT_ONCE, before=row.requested_at)
    if not found:
        return None
    document_lock.lock(conn, found)
    deleted = documents.deleted_among(conn, found)
    unfinished = jobs.unfinished_of_documents(conn, found)
    ending.hide(conn, [document_id for document_id in found if document_id not in deleted], now)
    job_ids = [job.job_id for some in unfinished.values() for job in some]
    findings = replace(row.findings, job_ids=[*row.findings.job_ids, *job_ids])
    receipts.record(conn, [Searched(row.receipt_id, findings)])
    return replace(row, findings=findings)


def drop_rest(conn: Connection, tenant: str) -> bool:
    """Drop the rows of a tenant without documents. Return False, and drop nothing, if it has documents."""
    if documents.any_of_tenant(conn, tenant):
        return False
    traces.drop_of_tenant(conn, tenant)
    return True
