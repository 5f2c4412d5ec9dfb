"""Sums up what the documents of an ingest lack: an entry and the first documents for each code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embedfleet.account import Account, Entry, summed
from embedfleet.account_codes import Code, Effect

_MOST_NAMED = 3
"""How many documents are named for each code."""


def named_and_more(named: Sequence[str], total: int) -> str:
    """The first of the names, and how many others there are."""
    first = named[:_MOST_NAMED]
    more = total - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


@dataclass(slots=True)
class AccountSums:
    """What the documents of an ingest lack, summed: one entry and the first documents for each code."""

    _entries: dict[Code, Entry] = field(default_factory=dict)
    _documents: Counter[Code] = field(default_factory=Counter)
    _named: dict[Code, list[str]] = field(default_factory=dict)

    def add(self, source: str, account: Account) -> None:
        for entry in account.entries:
            code = entry.code
            before = self._entries.get(code)
            # In a sum over documents, a place such as "page 2" says nothing.
            alone = replace(entry, places=())
            self._entries[code] = entry if before is None else summed((replace(before, places=()), alone))[0]
            self._documents[code] += 1
            if len(named := self._named.setdefault(code, [])) < _MOST_NAMED:
                named.append(source)

    def lines(self) -> Iterator[str]:
        """One line for each code, what is lost first."""
        order = list(Effect)
        for code, entry in sorted(self._entries.items(), key=lambda item: order.index(item[1].effect)):
            yield f"{entry.line} [{named_and_more(self._named[code], self._documents[code])}]"

    def json_document(self) -> list[dict[str, Any]]:
        return [
            entry.json_document() | {"documents": self._documents[code]}
            for code, entry in self._entries.items()
        ]
