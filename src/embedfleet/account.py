"""The account of a document: what its reader found in the file, and what of the file is not in the text.

Every reader keeps one (`AccountKeeper`). What a reader decides to leave out, cannot read or is not sure of
has an entry with a stable code, so that nothing is left out unsaid. `account_codes`
has what each code means. The parser process imports this module, so it imports nothing that is slow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from embedfleet.account_codes import RULES, Code, Effect

MOST_PLACES = 8
"""How many places an entry names; `count` counts the others."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of thing that the text lacks, or has in doubt.

    `count` is the number of elements. `chars` is the number of their characters that are not blank; None if
    it cannot be known, as for a scanned page. `places` says where the first ones are ("page 2", "line 5",
    "cp1254, or else cp1252"): at most MOST_PLACES.
    """

    code: Code
    count: int = 1
    chars: int | None = 0
    places: tuple[str, ...] = ()

    @property
    def effect(self) -> Effect:
        return RULES[self.code].effect

    def plus(self, other: Entry) -> Entry:
        """Return one entry for both, which have the same code. The first places are kept."""
        unknown = self.chars is None and other.chars is None
        return Entry(
            self.code,
            self.count + other.count,
            None if unknown else (self.chars or 0) + (other.chars or 0),
            (self.places + other.places)[:MOST_PLACES],
        )

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints, with the effect and a line for people."""
        return {
            "code": self.code.value,
            "effect": self.effect.value,
            "count": self.count,
            "chars": self.chars,
            "places": list(self.places),
            "message": self.line,
        }

    @property
    def line(self) -> str:
        """The entry in one line for people: "lost: 2 pages without text (page 2, page 4): run OCR"."""
        rule = RULES[self.code]
        verb = {Effect.LOST: "lost", Effect.DOUBT: "in doubt"}.get(rule.effect, "left out")
        chars = f", {self.chars:,} characters" if self.chars and self.chars != self.count else ""
        unnamed = self.count - len(self.places) if len(self.places) == MOST_PLACES else 0
        more = f" and {unnamed} more" if unnamed > 0 else ""
        places = f" ({', '.join(self.places)}{more})" if self.places else ""
        advice = f": {rule.advice}" if rule.advice else ""
        name = rule.one if self.count == 1 else rule.several
        return f"{verb}: {self.count:,} {name}{chars}{places}{advice}"


@dataclass(frozen=True, slots=True)
class Account:
    """What a reader found in a file (elements by name, such as "pages": 10), and what the text lacks."""

    found: tuple[tuple[str, int], ...] = ()
    entries: tuple[Entry, ...] = ()

    def json_document(self) -> dict[str, Any]:
        """Return the stable form that `--json` prints and SQL keeps."""
        return {"found": dict(self.found), "entries": [entry.json_document() for entry in self.entries]}

    def written(self) -> str | None:
        """Return the account as JSON text; None if it says nothing."""
        return json.dumps(self.json_document(), ensure_ascii=False) if self != NOTHING_SAID else None

    @classmethod
    def of_json(cls, written: str) -> Account:
        """Return the account that was `written`."""
        return cls.of_document(json.loads(written))

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Account:
        """Return the account that `json_document` described. What a later release says more is left out."""
        entries = tuple(
            Entry(_code(one["code"]), one["count"], one["chars"], tuple(one["places"]))
            for one in document["entries"]
        )
        return cls(tuple(document["found"].items()), entries)

    def with_entry(self, entry: Entry) -> Account:
        """Return this account with the entry, in place of one of the same code."""
        others = [one for one in self.entries if one.code is not entry.code]
        return Account(self.found, (*others, entry))

    def coverage(self, *, covered: int, visible: int) -> float:
        """Return the share, 0 to 1, of what a reader of the source sees that is in the text's chunks.

        `visible` characters of the text are not blank, `covered` of them are in chunks. Pages of which no
        character is known count as many characters as the pages that are in the text have on average.
        """
        pages = dict(self.found).get("pages", 0)
        unknown = sum(one.count for one in self.lost if one.chars is None)
        estimated = round(visible * unknown / pages) if pages else 0
        seen = visible + self.seen_chars_missing + estimated
        return covered / seen if seen else 1.0

    @property
    def lost(self) -> tuple[Entry, ...]:
        """The entries about content that is not in the text."""
        return tuple(entry for entry in self.entries if entry.effect is Effect.LOST)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The lines that a user should see for each document: what is lost and what is in doubt."""
        return tuple(entry.line for entry in self.entries if entry.effect in (Effect.LOST, Effect.DOUBT))

    @property
    def seen_chars_missing(self) -> int:
        """How many characters, as far as known, a reader of the page sees that are not in the text."""
        seen = (Effect.LOST, Effect.FURNITURE)
        return sum(entry.chars or 0 for entry in self.entries if entry.effect in seen)


def summed(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return one entry for each code, in the order of the first of each."""
    sums: dict[Code, Entry] = {}
    for entry in entries:
        before = sums.get(entry.code)
        sums[entry.code] = entry if before is None else before.plus(entry)
    return tuple(sums.values())


NOTHING_SAID = Account()
"""The account of a text that has none, such as one that an application hands over."""


def _code(value: str) -> Code:
    try:
        return Code(value)
    except ValueError:
        return Code.LATER_RELEASE


class AccountKeeper:
    """Collects the account of one document while it is read. Readers that call others share one."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._entries: dict[Code, Entry] = {}

    def found(self, element: str, count: int = 1) -> None:
        """Count elements that are in the text, by their name in the plural: "pages", "tables", "notes"."""
        self._found[element] = self._found.get(element, 0) + count

    def note(self, code: Code, *, count: int = 1, chars: int | None = 0, place: str | None = None) -> None:
        """Note that the text lacks something, or has it in doubt. Notes of one code are summed."""
        if count:
            self._add(Entry(code, count, chars, () if place is None else (place,)))

    def include(self, account: Account, *, place: str | None = None) -> None:
        """Add the account of a part, such as an attachment. `place` is put before the places in it."""
        for element, count in account.found:
            self.found(element, count)
        for entry in account.entries:
            places = entry.places
            if place is not None:
                places = tuple(f"{place}: {one}" for one in places) or (place,)
            self._add(replace(entry, places=places))

    def _add(self, entry: Entry) -> None:
        before = self._entries.get(entry.code)
        self._entries[entry.code] = entry if before is None else before.plus(entry)

    @property
    def account(self) -> Account:
        return Account(tuple(self._found.items()), tuple(self._entries.values()))
