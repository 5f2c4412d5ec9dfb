"""The metadata of a document: names and values that its submitter gives, for filters and for the reader.

It is small and flat: a name has a text, a number, a boolean or a list of texts. SQL keeps it as JSON with a
version of a document, and each row of the vector store has it beside the keys that embedfleet writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any

Value = str | int | float | bool | list[str]
Metadata = Mapping[str, Value]

RESERVED_NAMES = frozenset(
    {
        "media_id",
        "user_id",
        "chunk_id",
        "chunk_index",
        "job_id",
        "source",
        "heading",
        "page",
        "start_seconds",
        "end_seconds",
    }
)
"""The names that embedfleet writes to each row of the vector store itself."""

MOST_NAMES = 64
# Each chunk's row in the vector store has a copy of it, so 1,000 chunks have at most 8 MB of it.
MOST_BYTES = 8_192
MOST_LIST_VALUES = 256
# Vector stores hold integers of 64 bits.
_LARGEST_INTEGER = 2**63 - 1
_NAME = re.compile(r"[^\W\d][\w.-]{0,63}")


def checked(given: Any) -> dict[str, Value]:
    """Return the metadata, or raise ValueError that says which name or value cannot be kept, and why."""
    if not isinstance(given, Mapping):
        raise ValueError("must be names with values")
    if len(given) > MOST_NAMES:
        raise ValueError(f"has {len(given)} names, the most is {MOST_NAMES}: leave some out")
    kept = {checked_name(name): _checked_value(name, value) for name, value in given.items()}
    size = len((written(kept) or "").encode())
    if size > MOST_BYTES:
        raise ValueError(f"has {size:,} bytes as JSON, the most is {MOST_BYTES:,}: make it smaller")
    return kept


def checked_name(name: Any) -> str:
    """Return the name, or raise ValueError if metadata cannot have it."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError(
            f"name {shown(name)} must be up to 64 letters, digits, `_`, `-` and `.`, and begin with a "
            "letter or `_`"
        )
    if name in RESERVED_NAMES:
        raise ValueError(f"name `{name}` is one that embedfleet writes itself: choose another")
    return name


def checked_scalar(name: str, value: Any) -> str | int | float | bool:
    """Return a text, a number or a boolean, or raise ValueError if the name cannot have it as its value."""
    if isinstance(value, str):
        return _checked_text(name, value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= _LARGEST_INTEGER:
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, int | float):
        raise ValueError(f"`{name}`: the number is not finite or has more than 64 bits")
    raise ValueError(f"`{name}`: must be a text, a number, a boolean or a list of texts")


def _checked_value(name: str, value: Any) -> Value:
    if not isinstance(value, list | tuple):
        return checked_scalar(name, value)
    if len(value) > MOST_LIST_VALUES:
        raise ValueError(f"`{name}`: the list has {len(value)} texts, the most is {MOST_LIST_VALUES}")
    if not all(isinstance(one, str) for one in value):
        raise ValueError(f"`{name}`: a list must hold texts only")
    return [_checked_text(name, one) for one in value]


def _checked_text(name: str, text: str) -> str:
    if "\0" in text:
        raise ValueError(f"`{name}`: must not hold the character NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"`{name}`: is not valid text, it has a lone surrogate") from None
    return text


def shown(name: Any) -> str:
    """Return a name of any kind for a message. Every terminal and encoder takes it."""
    if not isinstance(name, str):
        return f"of type {type(name).__name__}"
    return f"`{(name if name.isprintable() else ascii(name)[1:-1])[:80]}`"


def patched(metadata: Metadata, patch: Mapping[str, Value | None]) -> dict[str, Value]:
    """Return the metadata with the values of the patch; a name that has None there is removed.

    Raises ValueError as `checked` does.
    """
    merged = {**metadata, **patch}
    return checked({name: value for name, value in merged.items() if value is not None})


def written(metadata: Metadata) -> str | None:
    """Return the metadata as JSON, equal texts for equal metadata; None if there is none."""
    if not metadata:
        return None
    return json.dumps(metadata, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=256)
def read(written_metadata: str | None) -> Metadata:
    """Return what `written` wrote. The mapping is shared by callers, and cannot be changed."""
    return MappingProxyType({} if written_metadata is None else json.loads(written_metadata))
