"""The ledger as a table for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from io import StringIO

from embedfleet.administration.schemas import UsageLine

NAMES = ("day", "tenant_id", "model", "api_key")
"""The columns that say whose the row is."""
COUNTS = ("jobs", "texts", "chars", "bytes", "tokens")
"""The columns that count."""
_COLUMNS = (*NAMES, *COUNTS, "cost", "currency")
# A spreadsheet would run what begins like this. A tenant chooses its name itself.
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def usage_csv(lines: Iterable[UsageLine]) -> str:
    """Return the lines as CSV with a row of headings. A text that would be a formula gets a `'` before it."""
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for line in lines:
        writer.writerow([_cell(getattr(line, name)) for name in _COLUMNS])
    return written.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_BEGINS_FORMULA):
        return f"'{value}"
    return "" if value is None else value
