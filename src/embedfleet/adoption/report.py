"""What an adoption has found, and what became of everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from embedfleet.adoption.groups import GroupFinding
from embedfleet.adoption.judging import Outcome, Reason
from embedfleet.adoption.survey import DocumentKey
from embedfleet.queue_schemas import Estimate

_MOST_EXAMPLES = 3


@dataclass(slots=True)
class Tally:
    """Documents with one outcome for one reason, and their rows. `examples` are the first few of them."""

    documents: int = 0
    rows: int = 0
    examples: list[DocumentKey] = field(default_factory=list)

    def add(self, key: DocumentKey, rows: int) -> None:
        self.documents += 1
        self.rows += rows
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(key)


@dataclass(slots=True)
class Report:
    """What became of a source; of a dry run, what would become of it.

    `tokens_taken` are tokens that need not be embedded. `stale_rows` are rows of taken documents that are
    left out: no chunk of the present text is theirs, or they repeat another row. `lost_metadata` counts by
    name the documents that come without metadata of this name, as a document here cannot have it. `restored`
    counts documents that were deleted here before. `distances` are what the collections compare vectors with,
    as far as the source says; here it is the cosine. `job_ids` are the jobs that embed documents again, and
    `refusals` say why some of these were not admitted. `estimate` is what the jobs of a dry run would cost.
    """

    place: str
    dry_run: bool
    collections: Sequence[str] = ()
    distances: Sequence[str] = ()
    left_alone: Sequence[str] = ()
    rows: int = 0
    unattributed_rows: int = 0
    view_rows: int = 0
    groups: Sequence[GroupFinding] = ()
    tallies: dict[tuple[Outcome, Reason], Tally] = field(default_factory=dict)
    stale_rows: int = 0
    lost_metadata: dict[str, int] = field(default_factory=dict)
    restored: int = 0
    tokens_taken: int = 0
    job_ids: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    estimate: Estimate | None = None

    def add(self, key: DocumentKey, outcome: Outcome, reason: Reason, rows: int) -> None:
        """Count a document."""
        self.tallies.setdefault((outcome, reason), Tally()).add(key, rows)

    def lose(self, names: Sequence[str]) -> None:
        """Count a document that comes without the metadata of these names."""
        for name in names:
            self.lost_metadata[name] = self.lost_metadata.get(name, 0) + 1

    def documents(self, outcome: Outcome) -> int:
        """Return how many documents have this outcome."""
        return sum(tally.documents for (one, _), tally in self.tallies.items() if one is outcome)

    def deed(self) -> dict[str, str | int]:
        """Return what the audit log keeps: the place and the numbers of documents."""
        return {"place": self.place, **{one.value: self.documents(one) for one in Outcome}}

    @property
    def whole(self) -> bool:
        """Whether every document of the source is here, or on its way, or dropped on purpose."""
        return not self.documents(Outcome.REFUSE)
