"""Atoms to chunks: greedy, to exact limits, ending at the best boundary in reach. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from embedfleet.chunking.strength import Strength
from embedfleet.queue_schemas import ChunkMethod


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a chunk may hold, and the most of it that may repeat the chunk before."""

    tokens: int
    chars: int
    overlap_tokens: int
    overlap_chars: int


@dataclass(slots=True)
class AtomTable:
    """Atoms not yet in a finished chunk, column by column; offsets are the document's.

    `token_sums[i]` counts the tokens before atom i, from an arbitrary origin: one entry more than atoms.
    `hard` holds, in order, the numbers of the atoms that begin with a `HARD` cut.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    strengths: list[int] = field(default_factory=list)
    token_sums: list[int] = field(default_factory=lambda: [0])
    hard: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.starts)

    def extend(self, starts: list[int], ends: list[int], strengths: list[int], token_sums: list[int]) -> None:
        """Append atoms; `token_sums` goes on from the last entry and has one value an atom."""
        known = len(self)
        self.starts += starts
        self.ends += ends
        self.strengths += strengths
        self.token_sums += token_sums
        if Strength.HARD in strengths:
            self.hard += [known + i for i, strength in enumerate(strengths) if strength == Strength.HARD]

    def drop(self, count: int) -> None:
        """Forget the first `count` atoms."""
        for column in (self.starts, self.ends, self.strengths, self.token_sums):
            del column[:count]
        self.hard = [atom - count for atom in self.hard if atom >= count]

    def first_body(self, start: int, end: int) -> int:
        """The first atom of [start, end) that is not a heading, i.e. that nothing is glued to."""
        while start + 1 < end and self.strengths[start + 1] == Strength.GLUED:
            start += 1
        return start


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk: atoms [start, end), of which those before `fresh` repeat the chunk before."""

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
    """The next chunk: new from atom `fresh` on, with overlap from atom `start` on where it fits.

    None if it depends on atoms that are not in the table yet; never None when `final`. The chunk is
    within the limits unless its only atom is not. It holds at least one new atom.
    """
    start = _start_in_reach(table, start, fresh, limits)
    reach = _reach(table, start, fresh, limits)
    if reach == len(table) and not final:
        return None
    hard = bisect_right(table.hard, fresh)
    if hard < len(table.hard) and table.hard[hard] <= reach:
        return Span(start, fresh, table.hard[hard])
    if reach == len(table):
        return Span(start, fresh, reach)
    whole = _WHOLE.get(method)
    if whole is not None:
        end = _last_at_least(table, fresh, reach, whole)
        if end is None and start < fresh:  # the overlap must not be why a sentence is cut
            return next_span(table, fresh, fresh, limits, method, final=final)
        if end is not None:
            return Span(start, fresh, end)
    return Span(start, fresh, _strongest_in_last_half(table, start, fresh, reach, limits))


def overlap_start(table: AtomTable, span: Span, limits: Limits) -> int:
    """The first atom that the chunk after `span` should repeat; `span.end` if none.

    Whole atoms within the overlap limits, from the strongest boundary that leaves at least half of
    it. Never all of the span, and never across a hard cut.
    """
    if not limits.overlap_chars or not limits.overlap_tokens:
        return span.end
    hard = bisect_right(table.hard, span.end)
    lowest = max(span.start + 1, table.hard[hard - 1] if hard else 0)
    earliest = _first_within(table, lowest, span.end, limits.overlap_tokens, limits.overlap_chars)
    half = _first_within(table, earliest, span.end, limits.overlap_tokens // 2, limits.overlap_chars // 2)
    window = table.strengths[earliest : max(half, earliest + 1)]
    return earliest + window.index(max(window)) if earliest < span.end else span.end


_WHOLE = {ChunkMethod.SENTENCES: Strength.SENTENCE, ChunkMethod.PARAGRAPHS: Strength.PARAGRAPH}
"""The weakest boundary at which these methods end a chunk, as long as there is one."""


def _start_in_reach(table: AtomTable, start: int, fresh: int, limits: Limits) -> int:
    """`start`, later if the overlap would keep the first new atom out."""
    if fresh == len(table):
        return start
    return _first_within(table, start, fresh, limits.tokens, limits.chars, through=fresh + 1)


def _first_within(
    table: AtomTable, start: int, stop: int, tokens: int, chars: int, *, through: int | None = None
) -> int:
    """The first atom from `start` on such that all from it up to `through` (`stop`) are in the limits;
    `stop` if there is none."""
    end = stop if through is None else through
    by_tokens = bisect_left(table.token_sums, table.token_sums[end] - tokens, start, stop)
    by_chars = bisect_left(table.starts, table.ends[end - 1] - chars, start, stop)
    return max(by_tokens, by_chars)


def _reach(table: AtomTable, start: int, fresh: int, limits: Limits) -> int:
    """One past the last atom that still fits, at least one new atom."""
    by_tokens = bisect_right(table.token_sums, table.token_sums[start] + limits.tokens, start) - 1
    by_chars = bisect_right(table.ends, table.starts[start] + limits.chars, start)
    return max(min(by_tokens, by_chars), fresh + 1)


def _last_at_least(table: AtomTable, fresh: int, reach: int, strength: int) -> int | None:
    strengths = table.strengths
    return next((atom for atom in range(reach, fresh, -1) if strengths[atom] >= strength), None)


def _strongest_in_last_half(table: AtomTable, start: int, fresh: int, reach: int, limits: Limits) -> int:
    """The last of the strongest boundaries that leave the chunk at least half full; below that the
    last that separates nothing from its heading; else as far as it goes."""
    tokens, chars = table.token_sums[start] + limits.tokens / 2, table.starts[start] + limits.chars / 2
    by_tokens = bisect_left(table.token_sums, tokens, fresh + 1, reach)
    by_chars = bisect_left(table.ends, chars, fresh, reach - 1) + 1
    half = min(by_tokens, by_chars)
    window = table.strengths[half : reach + 1]
    strongest = max(window)
    if strongest > Strength.GLUED:
        return reach - window[::-1].index(strongest)
    return _last_at_least(table, fresh, half - 1, Strength.WORD) or reach
