"""Writes tables into documents."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def put_between(page: Path, begin: str, end: str, make: Callable[[], str]) -> int:
    """Replace what stands between two marks of the page by what `make` returns.

    Returns the exit code: 1 if a mark is missing.
    """
    before, found_begin, rest = page.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        print(f"{page.name}: the marks {begin} and {end} are missing: put them back", file=sys.stderr)
        return 1
    page.write_text(f"{before}{begin}\n{make()}\n{end}{after}")
    return 0
