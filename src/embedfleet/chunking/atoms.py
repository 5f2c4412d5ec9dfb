"""Text to atoms: the pieces chunks are made of, found by offsets in one pass of array operations.

An atom is a line or a sentence, or a word where the method asks for it. Each has a strength: how good
a place its start is for a chunk to begin. Atoms are the same wherever the document's segments happen
to be cut, because one counts only once everything its borders depend on has been seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import before_mark, code_points, kinds_of
from embedfleet.chunking.lines import UNSAID, Context, Lines, Marks, Resume, find_lines, unmarked
from embedfleet.chunking.markdown import read_markdown
from embedfleet.chunking.prose import line_strengths
from embedfleet.chunking.sentences import sentence_ends
from embedfleet.chunking.source_code import read_code
from embedfleet.chunking.strength import Strength
from embedfleet.chunking.words import Words, find_words
from embedfleet.queue_schemas import ChunkMethod


@dataclass(frozen=True, slots=True)
class Bounds:
    """What keeps memory bounded whatever the text; also part of what an atom is. In characters.

    `longest_atom`: longer sentences are cut between words, longer words anywhere. `longest_gap`: more
    white space than this ends a paragraph. `lookahead`: no border of an atom depends on text farther
    ahead, so it must exceed the other two and the room a heading with its underline takes.
    `block`: segments are joined up to this size, for scanning again after each would be quadratic.
    """

    longest_atom: int = 8192
    longest_gap: int = 1024
    lookahead: int = 9216
    block: int = 65_536


LineReader = Callable[[str, "NDArray[np.uint8] | NDArray[np.uint32]", Lines, Resume], Marks]

_READERS: dict[str, LineReader] = {
    "text": lambda text, points, lines, resume: unmarked(lines),
    "markdown": read_markdown,
    "code": read_code,
}
CONTENT_TYPES = tuple(_READERS)


@dataclass(frozen=True, slots=True)
class Atoms:
    """Atoms of `text`, which begins at `offset` in the document; offsets below are into `text`.

    `starts`, `ends`: int64 (n,), half-open, in order, with nothing but white space between;
    `strengths`: int8 (n,), of the boundary before each. `paths`: (offset, heading path from there on).
    """

    text: str
    offset: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    strengths: NDArray[np.int8]
    paths: list[tuple[int, tuple[str, ...]]]

    def __len__(self) -> int:
        return len(self.starts)


def find_atoms(
    segments: Iterable[str], *, content_type: str, method: ChunkMethod, bounds: Bounds = Bounds()
) -> Iterator[Atoms]:
    """The atoms of a document, in runs that follow each other without a gap.

    Holds one segment and at most about `block` + 2 * `lookahead` characters more.
    """
    scanner = _Scanner(_READERS[content_type], bounds, by_word=method is ChunkMethod.TOKENS)
    pending = ""
    for block in _blocks(segments, bounds.block):
        pending += block
        if len(pending) > bounds.lookahead:
            atoms = scanner.take(pending, final=False)
            pending = pending[len(atoms.text) :]
            yield atoms
    yield scanner.take(pending, final=True)


def _blocks(segments: Iterable[str], size_wanted: int) -> Iterator[str]:
    """The segments, small ones joined."""
    parts: list[str] = []
    size = 0
    for segment in segments:
        parts.append(segment)
        size += len(segment)
        if size >= size_wanted:
            yield "".join(parts)
            parts, size = [], 0
    yield "".join(parts)


class _Scanner:
    """Goes through a document; remembers where and in what context it stopped."""

    def __init__(self, read_lines: LineReader, bounds: Bounds, *, by_word: bool) -> None:
        self._read_lines = read_lines
        self._bounds = bounds
        self._by_word = by_word
        self._resume = Resume(Context(at_start=True))
        self._offset = 0

    def take(self, text: str, *, final: bool) -> Atoms:
        """The atoms at the start of `text` that no later text can change; all of them if `final`.

        `text` starts where the last answer's text ended.
        """
        points = code_points(text)
        kinds = kinds_of(text, points)
        words = find_words(kinds)
        if not len(words):
            return self._take_blank(text, final=final)
        lines = find_lines(text, points, words, after_blank=self._resume.after_blank)
        marks = self._read_lines(text, points, lines, self._resume)
        strengths = self._word_strengths(text, points, kinds, words, lines, marks)
        atoms = self._assemble(text, words, lines, strengths)
        if final:
            return self._close(text, atoms, marks, len(text), self._resume)
        return self._take_certain(text, atoms, lines, marks)

    def _word_strengths(
        self,
        text: str,
        points: NDArray[np.uint8] | NDArray[np.uint32],
        kinds: NDArray[np.uint8],
        words: Words,
        lines: Lines,
        marks: Marks,
    ) -> NDArray[np.int8]:
        """int8 (n_words,): strength of the boundary before each word."""
        if self._by_word:
            strengths = np.full(len(words), Strength.WORD, dtype=np.int8)
        else:
            ends = self._sentence_ends(text, kinds, words, lines, marks)
            strengths = np.zeros(len(words), dtype=np.int8)
            strengths[1:][ends[:-1]] = Strength.SENTENCE
            last_words = np.append(lines.first_words[1:], len(words)) - 1
            by_prose = line_strengths(points, kinds, lines, ends[last_words], self._resume.column)
            said = marks.strengths != UNSAID
            strengths[lines.first_words] = np.where(said, marks.strengths, by_prose)
        after_gap = np.flatnonzero(words.starts[1:] - words.ends[:-1] > self._bounds.longest_gap) + 1
        strengths[after_gap] = np.maximum(strengths[after_gap], Strength.PARAGRAPH)
        strengths[0] = self._resume.strength or max(strengths[0], Strength.PARAGRAPH)
        return strengths

    def _sentence_ends(
        self, text: str, kinds: NDArray[np.uint8], words: Words, lines: Lines, marks: Marks
    ) -> NDArray[np.bool_]:
        first_in_line = np.zeros(len(words), dtype=np.bool_)
        first_in_line[lines.first_words] = True
        first_in_line[0] = self._resume.column == 0
        ends = sentence_ends(text, kinds, words, first_in_line)
        if marks.literal.any():
            words_per_line = np.diff(np.append(lines.first_words, len(words)))
            ends[np.repeat(marks.literal, words_per_line)] = False
        return ends

    def _assemble(
        self, text: str, words: Words, lines: Lines, strengths: NDArray[np.int8]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
        """(starts, ends, strengths) of the atoms, none longer than the bound."""
        first_words = np.flatnonzero(strengths)
        starts_by_word = words.starts.copy()
        starts_by_word[lines.first_words] = lines.starts
        starts = starts_by_word[first_words]
        ends = words.ends[np.append(first_words[1:], len(words)) - 1]
        strengths = strengths[first_words]
        limit = self._bounds.longest_atom
        long = np.flatnonzero(ends - starts > limit)
        if not len(long):
            return starts, ends, strengths
        spans = zip(starts[long].tolist(), ends[long].tolist(), strict=True)
        cuts = [cut for start, end in spans for cut in _cuts(text, words, start, end, limit)]
        return _insert(words, starts, ends, strengths, cuts)

    def _take_blank(self, text: str, *, final: bool) -> Atoms:
        nothing = np.empty(0, dtype=np.int64)
        atoms = (nothing, nothing, np.empty(0, dtype=np.int8))
        marks = Marks(np.empty(0, dtype=np.int8), np.empty(0, dtype=np.bool_))
        size = len(text) if final else len(text) - self._bounds.longest_gap
        return self._close(text, atoms, marks, size, Resume(self._resume.context))

    def _take_certain(
        self,
        text: str,
        atoms: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]],
        lines: Lines,
        marks: Marks,
    ) -> Atoms:
        starts, ends, strengths = atoms
        if len(text) - ends[-1] > self._bounds.lookahead:  # a long blank: stop inside it, it has no other end
            size = len(text) - self._bounds.longest_gap
            return self._close(text, atoms, marks, size, Resume(_context_at(marks, size, self._resume)))
        last = max(int(np.searchsorted(starts, len(text) - self._bounds.lookahead, side="right")) - 1, 0)
        size = int(starts[last]) if last else 0
        line = int(np.searchsorted(lines.starts, size, side="right")) - 1
        column = max(size - int(lines.texts[line]), 0)
        if line == 0:
            column += self._resume.column
        certain = (starts[:last], ends[:last], strengths[:last])
        if not last:
            return self._close(text, certain, marks, 0, self._resume)
        resume = Resume(_context_at(marks, size, self._resume), int(strengths[last]), column)
        return self._close(text, certain, marks, size, resume)

    def _close(
        self,
        text: str,
        atoms: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]],
        marks: Marks,
        size: int,
        resume: Resume,
    ) -> Atoms:
        paths = [(offset, context.path) for offset, context in marks.contexts if offset < max(size, 1)]
        taken = Atoms(text[:size], self._offset, *atoms, paths=paths)
        self._offset += size
        self._resume = resume
        return taken


def _context_at(marks: Marks, offset: int, resume: Resume) -> Context:
    """The context before what stands at `offset`, which will be read again."""
    before = [context for at, context in marks.contexts if at < offset]
    return before[-1] if before else resume.context


def _cuts(text: str, words: Words, start: int, end: int, limit: int) -> list[tuple[int, Strength]]:
    """Where to cut a long atom: after as many words as fit, or inside a word that alone is too long.

    Each cut depends only on the one before, so a scan that resumes at a cut finds the same others.
    """
    cuts = []
    while end - start > limit:
        word = int(np.searchsorted(words.ends, start + limit, side="right"))
        if words.starts[word] > start:
            start, strength = int(words.starts[word]), Strength.WORD
        else:
            start, strength = before_mark(text, start, start + limit), Strength.HARD
        cuts.append((start, strength))
    return cuts


def _insert(
    words: Words,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    strengths: NDArray[np.int8],
    cuts: list[tuple[int, Strength]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    offsets = np.array([offset for offset, _ in cuts], dtype=np.int64)
    word_before = np.searchsorted(words.starts, offsets) - 1
    cut_ends = np.minimum(words.ends[word_before], offsets)
    at = np.searchsorted(starts, offsets)
    new_ends = np.sort(np.concatenate((ends, cut_ends)))
    cut_strengths = np.array([strength for _, strength in cuts], dtype=np.int8)
    return np.insert(starts, at, offsets), new_ends, np.insert(strengths, at, cut_strengths)
