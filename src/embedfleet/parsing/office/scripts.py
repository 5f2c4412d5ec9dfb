"""Raised, lowered and struck text, whose meaning must not get lost: 10^6 is not 106."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import Literal

from embedfleet.parsing.office.blocks import visible

Script = Literal["", "above", "below", "struck"]

# Raised letters that belong to their word: 1st, 2e, Acme™.
_PART_OF_WORD = re.compile(r"st|nd|rd|th|e|er|re|ère|ème|o|a|os|as|º|ª|tm|sm|r|c|®|™|©|\W+", re.IGNORECASE)
_SIMPLE = re.compile(r"[+−–-]?[\w.,*′″/]+")
_LONGEST = 24  # characters; more are a text that is set in small letters


def joined(pieces: Iterable[tuple[Script, str]]) -> str:
    """Return the text of pieces, in which scripts are written as `10^6` and struck text as `~~old~~`."""
    runs = groupby(pieces, key=itemgetter(0))
    return visible("".join(_written(script, "".join(text for _, text in run)) for script, run in runs))


def _written(script: Script, text: str) -> str:
    bare = text.strip()
    if not script or not bare:
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    if script == "struck":
        return f"{before}~~{bare}~~{after}"
    if len(bare) > _LONGEST or (script == "below" and bare.isdecimal()):
        return text
    if script == "above" and _PART_OF_WORD.fullmatch(bare):
        return text
    mark = "^" if script == "above" else "_"
    return f"{before}{mark}{bare if _SIMPLE.fullmatch(bare) else f'({bare})'}{after}"
