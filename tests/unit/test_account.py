"""An account says what a text lacks, survives every form it is kept in, and counts for the coverage."""

from __future__ import annotations

import json

import pytest

from embedfleet.account import MOST_PLACES, NOTHING_SAID, Account, AccountKeeper, Entry, summed
from embedfleet.account_codes import RULES, Code, Effect
from embedfleet.visible_text import letters_in


def test_every_code_has_a_rule_and_a_stable_name() -> None:
    for code in Code:
        assert isinstance(RULES[code].effect, Effect)
        assert code.value == code.value.lower()


def test_notes_of_one_code_are_summed_and_name_the_first_places() -> None:
    keeper = AccountKeeper()
    for page in range(1, 13):
        keeper.note(Code.HIDDEN, chars=10, place=f"line {page}")
    keeper.note(Code.HTML_NAVIGATION, count=0)
    keeper.found("tables")
    keeper.found("tables", 2)
    account = keeper.account
    (entry,) = account.entries
    assert (entry.count, entry.chars, len(entry.places)) == (12, 120, MOST_PLACES)
    assert entry.line.startswith("left out: 12 hidden parts, 120 characters (line 1, ")
    assert entry.line.endswith(f" and {12 - MOST_PLACES} more)")
    assert account.found == (("tables", 3),)


def test_what_is_lost_or_in_doubt_is_a_warning_and_furniture_is_none() -> None:
    account = Account(
        entries=(
            Entry(Code.HTML_NAVIGATION, 2, 40),
            Entry(Code.CHARACTERS_REPLACED, 1, 1, ("not utf-8",)),
            Entry(Code.ENCODING_GUESSED, places=("read as cp1252",)),
        )
    )
    lost, doubt = account.warnings
    assert lost.startswith("lost: 1 character ")
    assert doubt == "in doubt: 1 guessed encoding (read as cp1252): save it as UTF-8 to be sure"
    assert [entry.code for entry in account.lost] == [Code.CHARACTERS_REPLACED]


def test_an_account_is_the_same_after_it_was_written_as_json() -> None:
    account = Account((("pages", 3),), (Entry(Code.HIDDEN, 2, None, ("größe",)),))
    assert Account.of_json(account.written() or "") == account
    assert NOTHING_SAID.written() is None


def test_a_code_of_a_later_release_is_not_passed_over() -> None:
    written = json.dumps({"found": {}, "entries": [{"code": "x.y", "count": 3, "chars": 5, "places": []}]})
    assert Account.of_json(written).entries == (Entry(Code.LATER_RELEASE, 3, 5),)


def test_a_sum_with_an_unknown_number_of_characters_keeps_what_is_known() -> None:
    known, unknown = Entry(Code.HIDDEN, 1, 7), Entry(Code.HIDDEN, 1, None)
    assert [summed(both)[0].chars for both in ((known, unknown), (unknown, unknown))] == [7, None]


@pytest.mark.parametrize(
    ("entries", "coverage"),
    [
        ((), 0.9),
        ((Entry(Code.HIDDEN, 1, 100),), 0.9),  # its readers do not see it
        ((Entry(Code.HTML_NAVIGATION, 1, 100),), 0.45),
        ((Entry(Code.CHARACTERS_REPLACED, 300, 300),), 0.225),
        ((Entry(Code.CHARACTERS_REPLACED, 3, None),), 0.36),  # 3 pages like the 2 that are in the text
    ],
)
def test_the_coverage_is_of_what_a_reader_of_the_source_sees(
    entries: tuple[Entry, ...], coverage: float
) -> None:
    account = Account((("pages", 2),), entries)
    assert account.coverage(covered=90, visible=100) == pytest.approx(coverage)


def test_a_source_of_which_nothing_is_seen_is_covered() -> None:
    assert NOTHING_SAID.coverage(covered=0, visible=0) == 1.0


def test_blank_characters_are_not_counted() -> None:
    assert letters_in(" a b\n\tü ") == 3
