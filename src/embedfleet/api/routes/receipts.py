"""Receipts of deletions: what there was, what is left, and what is out of reach."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from embedfleet.api.access import Parts, Reader
from embedfleet.api.fields import NO_NUL, After, Limit, NextCursor, jobs_within
from embedfleet.api.problems import responses
from embedfleet.queue_schemas import Receipt

router = APIRouter(prefix="/v1/receipts", tags=["receipts"])

ReceiptId = Annotated[str, Path(description="The id of a receipt.", max_length=64, pattern=NO_NUL)]


class ReceiptPage(BaseModel):
    """Some receipts of a listing."""

    receipts: list[Receipt]
    next_cursor: NextCursor


@router.get("", responses=responses())
async def list_receipts(parts: Parts, caller: Reader, limit: Limit = 100, after: After = None) -> ReceiptPage:
    """Receipts of deletions, newest first. An operator who names no tenant sees those of all."""
    page = await jobs_within(parts, caller).list_receipts(limit=limit, after=after)
    return ReceiptPage(receipts=page, next_cursor=page.next_cursor)


@router.get("/{receipt_id}", responses=responses(HTTPStatus.NOT_FOUND))
async def get_receipt(parts: Parts, caller: Reader, receipt_id: ReceiptId) -> Receipt:
    """What a deletion found. Ask again while its state is `pending` or `left`: it is searched again."""
    return await jobs_within(parts, caller).receipt(receipt_id)
