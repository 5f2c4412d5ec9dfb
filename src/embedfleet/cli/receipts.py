"""How receipts of deletions are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from embedfleet.cli.output import print_json, readable_time, say, say_table, warn

if TYPE_CHECKING:
    from embedfleet.queue_schemas import Receipt


def show_receipts(found: Sequence[Receipt], *, as_json: bool) -> None:
    """Show a list of receipts, each in a line."""
    if as_json:
        print_json({"receipts": [one.json_document() for one in found]})
        return
    rows = [
        (one.receipt_id, one.media_id or "the whole tenant", readable_time(one.requested_at), one.state.value)
        for one in found
    ]
    say_table(("receipt", "document", "requested", "state"), rows)


def say_receipt(receipt: Receipt) -> None:
    """Show all that a receipt says, for a person."""
    say(f"receipt     {receipt.receipt_id}")
    say(f"of          {receipt.media_id or 'the whole tenant'} (tenant {receipt.tenant})")
    say(f"state       {receipt.state}")
    say(f"requested   {readable_time(receipt.requested_at)}")
    if receipt.searched_at is not None:
        say(f"searched    {readable_time(receipt.searched_at)}")
    say(f"there was   {_counts(receipt.held) or 'nothing'}")
    if receipt.left is not None:
        say(f"left        {_counts(receipt.left) or 'nothing'} (in {len(receipt.left)} places searched)")
    if receipt.kept:
        say(f"kept        {_counts(receipt.kept)} (evidence that it was there)")
    for backup in receipt.backups:
        say(f"backup      {backup.file} of {readable_time(backup.written_at)} may have it")
    for code, note in receipt.beyond.items():
        say(f"beyond      {code}: {note}")


def say_what_is_left(receipts: Sequence[Receipt]) -> bool:
    """Warn of every receipt whose search found something. Return whether there is one."""
    from embedfleet.queue_schemas import ReceiptState

    left = [one for one in receipts if one.state is ReceiptState.LEFT]
    for one in left:
        warn(
            f"error: receipt {one.receipt_id}: left are {_counts(one.left or {})}: run `embedfleet verify "
            f"--repair`, then look again with `embedfleet documents receipt {one.receipt_id}`"
        )
    return bool(left)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {place}" for place, count in counts.items() if count)
