"""What a receipt of a deletion says of the places that this system cannot search. Pure: texts from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from embedfleet.clock import utc


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known of the world outside. `backups_kept_days` is None if the operator has not said it."""

    backups_kept_days: int | None
    has_webhook: bool


def backups_of(made: Mapping[str, datetime], since: float, until: float) -> list[tuple[str, float]]:
    """Return the backups that may hold what existed between two instants: (file, when it was written).

    A file that was written again later has only the later backup.
    """
    return [
        (file, written.timestamp())
        for file, written in sorted(made.items())
        if since <= written.timestamp() <= until
    ]


def notes(
    outside: Outside,
    backups: Sequence[tuple[str, float]],
    stores_left: Sequence[str] = (),
    *,
    not_forgotten: str | None = None,
    finished_at: float,
    whole_tenant: bool,
) -> dict[str, str]:
    """Return, by a code, what the receipt must say of what was not searched.

    `stores_left` are vector stores that moves have left with rows in them, by the order of an operator.
    `not_forgotten` is where the vector store may have deleted texts.
    """
    found = {
        "backups": _of_backups(outside, len(backups), finished_at),
        "free_space": "the files of the database and of the vector store may have deleted bytes in them "
        "until their space is used again: text in the databases, vectors without a name in the index",
    }
    if not_forgotten is not None:
        found["vector_store"] = not_forgotten
    if stores_left:
        found["stores_left"] = (
            f"a move of the vectors left rows in {', '.join(stores_left)}: delete its collections there"
        )
    if outside.has_webhook:
        found["webhook"] = "the receiver of events was told its name: delete it there"
    if not whole_tenant:
        found["shared_texts"] = (
            "the cached vector of a text that another document of the tenant used last goes with that one"
        )
    return found


def _of_backups(outside: Outside, known: int, finished_at: float) -> str:
    days = outside.backups_kept_days
    named = f"{known} backups are named that may have it: delete them; " if known else ""
    others = "copies that other programs make (pg_dump, snapshots) are not known: look where they are kept"
    if days is None:
        return named + others
    last = utc(finished_at) + timedelta(days=days)
    return f"{named}{others}; backups are kept for {days} days, so none has it after {last.date()}"
