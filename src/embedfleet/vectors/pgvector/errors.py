"""Maps the errors of psycopg and of the server to ours."""

from __future__ import annotations

import re

import psycopg

from embedfleet.errors import (
    ConfigError,
    EmbedfleetError,
    Permanent,
    Remedy,
    StorageFull,
    VectorStoreUnavailable,
    one_line,
)

_FULL = "53100"
_NO_PRIVILEGE = "42501"
_INTERNAL = "XX"
# The server's messages when it refuses a connection, for which libpq gives no code.
_REFUSALS = re.compile(
    r"password authentication failed|no password supplied|authentication failed|no pg_hba.conf entry"
    r"|(database|role) \".*\" does not exist|permission denied for database"
)
# What may be different the next time, by class: connection (08), rollback (40), resources (53), a table that
# was dropped since it was named (42P01), locks and states (55), intervention (57), system (58).
_PASSES = re.compile(r"08|40|42P01|53|55|57|58|25")


def mapped(exc: Exception, place: str, *, opening: bool) -> Exception:
    """Return embedfleet's error for what a call raised. Return a defect unchanged.

    While `opening`, a refusal points to a wrong setting. Later it is VectorStoreUnavailable: the setting has
    worked before.
    """
    if isinstance(exc, EmbedfleetError) or not isinstance(exc, psycopg.Error):
        return exc
    # Only the first line: the details of a message may quote the text of a document.
    text = one_line(str(exc).strip().partition("\n")[0])
    code = exc.sqlstate
    if code == _FULL:
        return StorageFull(f"no space left for vectors in {place}: free some there ({text})")
    if code is None or _PASSES.match(code):
        refused = opening and (code is None or code.startswith("28")) and _REFUSALS.search(text)
        return ConfigError(f"{place}: {text}") if refused else VectorStoreUnavailable(f"{place}: {text}")
    if code.startswith("28"):
        wrong = ConfigError if opening else VectorStoreUnavailable
        return wrong(f"{place}: {text}")
    if code == _NO_PRIVILEGE:
        wrong = ConfigError if opening else VectorStoreUnavailable
        return wrong(f"{place}: {text}; grant it to the user of this database")
    if code.startswith(_INTERNAL):
        return VectorStoreUnavailable(
            f"the vector store in {place} failed: {text}", remedy=Remedy.REBUILD_VECTORS
        )
    if isinstance(exc, psycopg.DataError):
        return Permanent(f"the vector store refuses this: {text}")
    return exc
