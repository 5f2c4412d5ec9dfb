"""Questions, the answers that are right, and the passages that a search found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document: the characters from `start` to before `end`."""

    document: str
    start: int
    end: int


def same_passage(one: Passage, other: Passage) -> bool:
    """Return whether two passages show the same text: more than half of the shorter one is in both.

    Two spaces with different tokenizers cut a document at different places, so their passages seldom have
    equal spans. The shorter one counts, so a passage that is cut into two is found again in either part.
    Neighbours share less than half, as an overlap of chunks is smaller. The relation is not transitive.
    """
    if one.document != other.document:
        return False
    shared = min(one.end, other.end) - max(one.start, other.start)
    shorter = min(one.end - one.start, other.end - other.start)
    return 2 * shared > shorter


@dataclass(frozen=True, slots=True)
class Answer:
    """A right answer: a whole document, or the characters `span` of it. `gain` is how right it is, from 1."""

    document: str
    span: tuple[int, int] | None = None
    gain: int = 1

    def is_met_by(self, passage: Passage) -> bool:
        """Return whether a passage that was found is this answer."""
        if self.span is None:
            return passage.document == self.document
        return same_passage(Passage(self.document, *self.span), passage)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its right answers. `language` and `content_type` are empty where they are not known."""

    question_id: str
    text: str
    answers: tuple[Answer, ...]
    language: str = ""
    content_type: str = ""


def documents_once(ranking: Iterable[Passage]) -> Sequence[Passage]:
    """Return the first passage of each document, in the order of the ranking."""
    first: dict[str, Passage] = {}
    for passage in ranking:
        first.setdefault(passage.document, passage)
    return list(first.values())
