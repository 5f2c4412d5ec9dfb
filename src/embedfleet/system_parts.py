"""Decides whether a broker or a vector store belongs to the system of a database.

A *system* is what one database records. It has two *parts* outside of SQL: its queues and its vectors. Each
part carries a *mark*, which names its system. SQL records which parts the system has. Both must agree, so
that a host with half of the settings cannot put rows where no other host looks for them, and two systems
cannot share one Redis or one vector store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum, StrEnum, auto

from embedfleet.errors import ConfigError, Remedy


class PartKind(StrEnum):
    """A part of a system that is not in SQL. The values are stable: SQL holds them."""

    QUEUES = "queues"
    VECTORS = "vectors"

    @property
    def setting(self) -> str:
        """The setting, or the section of settings, that says where the part is."""
        return "redis.url" if self is PartKind.QUEUES else "vector_store"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a part says of itself. `database` is the place of its system's database, without secrets."""

    system_id: str
    part_id: str
    database: str

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Mark:
        """Read a mark. A text of a later release or another program gives a mark of an unknown system."""
        try:
            held = json.loads(text)
            return cls(held["system_id"], held["part_id"], held["database"])
        except (ValueError, TypeError, KeyError):
            return cls("unknown", "unknown", "unknown")


@dataclass(frozen=True, slots=True)
class Part:
    """A part as SQL records it. `place` is for messages; `since` is Unix seconds.

    `closed`: nothing more may be recorded of it, since the vectors are about to be in another part.
    """

    part_id: str
    place: str
    since: float
    closed: bool = False


@dataclass(frozen=True, slots=True)
class SystemRecord:
    """What SQL records of its system. A part that no release recorded yet is missing."""

    system_id: str
    parts: Mapping[PartKind, Part] = field(default_factory=dict)


class Verdict(Enum):
    """What to do with a part that was opened."""

    OURS = auto()
    """The mark is right: use the part."""
    ADOPT = auto()
    """Neither SQL nor the part knows of the other: mark the part and record it."""
    RECORD = auto()
    """The part carries the mark of this system, but SQL does not record it yet: record it."""
    MARK_AGAIN = auto()
    """The part was emptied: mark it again with the id that SQL records."""
    WAIT = auto()
    """Other orchestrators run. If the part is theirs, the leader marks it again soon: look again."""


def judge(
    kind: PartKind,
    system: SystemRecord,
    held: Mark | None,
    place: str,
    *,
    database: str,
    holds_work: bool,
    others_run: bool,
) -> Verdict:
    """Return what to do with a part that was opened at `place` and holds the mark `held`.

    `holds_work`: losing this part's content loses what SQL counts on (vectors that SQL records as stored).
    `others_run`: other orchestrators of the system are alive.

    Raises ConfigError, which names both sides, if the part is not the one of this system.
    """
    recorded = system.parts.get(kind)
    if held is not None:
        return _judge_marked(kind, system, held, place, database)
    if recorded is None:
        return Verdict.ADOPT
    if recorded.place != place:
        vectors = kind is PartKind.VECTORS
        raise ConfigError(
            f"{database} belongs to a system that has its {kind} {recorded.place}, but the settings of this "
            f"host say {place}, which that system does not know: set `{kind.setting}` as on its other hosts, "
            + ("or have the vectors moved there" if vectors else "or move the system on purpose"),
            remedy=Remedy.MOVE_VECTORS if vectors else Remedy.SHOW_SYSTEM,
        )
    if holds_work:
        raise ConfigError(
            f"the {kind} {place} are gone, or not the ones that {database} records: bring the right ones "
            "back, or build them again from SQL",
            remedy=Remedy.REBUILD_VECTORS,
        )
    return Verdict.WAIT if others_run else Verdict.MARK_AGAIN


def _judge_marked(kind: PartKind, system: SystemRecord, held: Mark, place: str, database: str) -> Verdict:
    if held.system_id != system.system_id:
        raise ConfigError(
            f"the {kind} {place} belong to another system ({held.system_id}, with the database "
            f"{held.database}), not to that of {database} ({system.system_id}): two systems cannot share "
            f"them, so set `{kind.setting}` to a place of this system's own{_own_place(kind)}; if the other "
            "system is gone for good, move this one to them on purpose",
            remedy=Remedy.SHOW_SYSTEM,
        )
    recorded = system.parts.get(kind)
    if recorded is None:
        return Verdict.RECORD
    if held.part_id != recorded.part_id:
        raise ConfigError(
            f"the {kind} {place} were replaced: {database} records that its system has them {recorded.place} "
            f"now: set `{kind.setting}` as on its other hosts, or move the system on purpose",
            remedy=Remedy.SHOW_SYSTEM,
        )
    return Verdict.OURS


def _own_place(kind: PartKind) -> str:
    return ", or `redis.key_prefix` to another one" if kind is PartKind.QUEUES else ""
