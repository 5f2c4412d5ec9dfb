"""Packs as many atoms into a chunk as its limits allow, ending at the best boundary in reach."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from embedfleet.chunking.strength import Strength
from embedfleet.queue_schemas import ChunkMethod


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a chunk may hold, and how much of it may repeat the chunk before it."""

    tokens: int
    chars: int
    overlap_tokens: int
    overlap_chars: int


@dataclass(slots=True)
class AtomTable:
    """The atoms that a later chunk may contain, as columns. Offsets are relative to the document.

    `token_sums[i]` is the number of tokens before atom i, counted from an arbitrary origin; it has one entry
    more than there are atoms. `hard` lists the numbers of the atoms that begin at a `HARD` cut, in order.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    strengths: list[int] = field(default_factory=list)
    token_sums: list[int] = field(default_factory=lambda: [0])
    hard: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.starts)

    def extend(self, starts: list[int], ends: list[int], strengths: list[int], token_sums: list[int]) -> None:
        """Append atoms. `token_sums` continues from the last entry, with one value for each atom."""
        count = len(self)
        self.starts += starts
        self.ends += ends
        self.strengths += strengths
        self.token_sums += token_sums
        if Strength.HARD in strengths:
            self.hard += [count + i for i, strength in enumerate(strengths) if strength == Strength.HARD]

    def drop(self, count: int) -> None:
        """Remove the first `count` atoms."""
        for column in (self.starts, self.ends, self.strengths, self.token_sums):
            del column[:count]
        self.hard = [atom - count for atom in self.hard if atom >= count]

    def first_body(self, start: int, end: int) -> int:
        """The first atom of [start, end) that is no heading: no atom is glued to it."""
        while start + 1 < end and self.strengths[start + 1] == Strength.GLUED:
            start += 1
        return start


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk as atoms [start, end). Those before `fresh` repeat the end of the chunk before it."""

    start: int
    fresh: int
    end: int


def next_span(
    table: AtomTable,
    start: int,
    fresh: int,
    limits: Limits,
    method: ChunkMethod,
    *,
    final: bool,
) -> Span | None:
    """The next chunk: its new atoms begin at `fresh`, its overlap at `start` or later, if it fits.

    It has at least one new atom, and is within the limits unless it is a single atom that is not. Returns
    None if the chunk depends on atoms that are not in the table yet; never with `final`.
    """
    start = _start_in_reach(table, start, fresh, limits)
    reach = _reach(table, start, fresh, limits)
    if reach == len(table) and not final:
        return None
    # A chunk always ends at a hard cut.
    hard = bisect_right(table.hard, fresh)
    if hard < len(table.hard) and table.hard[hard] <= reach:
        return Span(start, fresh, table.hard[hard])
    if reach == len(table):
        return Span(start, fresh, reach)
    weakest = _WEAKEST_BOUNDARIES.get(method)
    if weakest is not None:
        end = _last_at_least(table, fresh, reach, weakest)
        if end is None and start < fresh:  # without the overlap a whole sentence or paragraph may fit
            return next_span(table, fresh, fresh, limits, method, final=final)
        if end is not None:
            return Span(start, fresh, end)
    return Span(start, fresh, _strongest_in_last_half(table, start, fresh, reach, limits))


def overlap_start(table: AtomTable, span: Span, limits: Limits) -> int:
    """The first atom that the chunk after `span` should repeat; `span.end` if it should repeat none.

    The overlap consists of whole atoms and is within its limits. It begins at the strongest boundary in the
    first half of what the limits allow. It is never all of the span, and never crosses a hard cut.
    """
    if not limits.overlap_chars or not limits.overlap_tokens:
        return span.end
    hard = bisect_right(table.hard, span.end)
    lowest = max(span.start + 1, table.hard[hard - 1] if hard else 0)
    earliest = _first_within(table, lowest, span.end, limits.overlap_tokens, limits.overlap_chars)
    half = _first_within(table, earliest, span.end, limits.overlap_tokens // 2, limits.overlap_chars // 2)
    window = table.strengths[earliest : max(half, earliest + 1)]
    return earliest + window.index(max(window)) if earliest < span.end else span.end


_WEAKEST_BOUNDARIES = {ChunkMethod.SENTENCES: Strength.SENTENCE, ChunkMethod.PARAGRAPHS: Strength.PARAGRAPH}
"""The weakest boundary at which a chunk ends with these methods, unless only weaker ones are in reach."""


def _start_in_reach(table: AtomTable, start: int, fresh: int, limits: Limits) -> int:
    """`start`, moved so far that the overlap leaves room for the first new atom."""
    if fresh == len(table):
        return start
    return _first_within(table, start, fresh, limits.tokens, limits.chars, through=fresh + 1)


def _first_within(
    table: AtomTable, start: int, stop: int, tokens: int, chars: int, *, through: int | None = None
) -> int:
    """The first atom in [start, stop) from which all atoms up to `through` fit into the limits; else `stop`.

    `through` is exclusive and is `stop` by default.
    """
    end = stop if through is None else through
    by_tokens = bisect_left(table.token_sums, table.token_sums[end] - tokens, start, stop)
    by_chars = bisect_left(table.starts, table.ends[end - 1] - chars, start, stop)
    return max(by_tokens, by_chars)


def _reach(table: AtomTable, start: int, fresh: int, limits: Limits) -> int:
    """The end of the longest chunk within the limits; it includes at least one new atom."""
    by_tokens = bisect_right(table.token_sums, table.token_sums[start] + limits.tokens, start) - 1
    by_chars = bisect_right(table.ends, table.starts[start] + limits.chars, start)
    return max(min(by_tokens, by_chars), fresh + 1)


def _last_at_least(table: AtomTable, fresh: int, reach: int, strength: int) -> int | None:
    """The last boundary in (fresh, reach] of at least this strength."""
    strengths = table.strengths
    return next((atom for atom in range(reach, fresh, -1) if strengths[atom] >= strength), None)


def _strongest_in_last_half(table: AtomTable, start: int, fresh: int, reach: int, limits: Limits) -> int:
    """The last of the strongest boundaries that leave the chunk at least half full.

    If they all separate glued atoms, such as a heading and its text: the last earlier boundary that does not,
    or, without one, `reach`.
    """
    tokens, chars = table.token_sums[start] + limits.tokens / 2, table.starts[start] + limits.chars / 2
    by_tokens = bisect_left(table.token_sums, tokens, fresh + 1, reach)
    by_chars = bisect_left(table.ends, chars, fresh, reach - 1) + 1
    half = min(by_tokens, by_chars)
    window = table.strengths[half : reach + 1]
    strongest = max(window)
    if strongest > Strength.GLUED:
        return reach - window[::-1].index(strongest)
    return _last_at_least(table, fresh, half - 1, Strength.WORD) or reach
