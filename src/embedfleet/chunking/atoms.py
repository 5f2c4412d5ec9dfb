"""Finds the atoms of a text, the pieces that chunks are made of, in one pass of array operations.

An atom is a line or a sentence; it is a word if the chunking method asks for words. Each atom has a strength:
how good its start is as the start of a chunk. The atoms do not depend on where the document's segments are
cut: the scanner returns an atom only after it has read everything on which the atom's borders depend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import Characters, before_cluster, look_up
from embedfleet.chunking.lines import UNMARKED, Above, Context, Lines, Marks, Resume, find_lines, unmarked
from embedfleet.chunking.markdown import read_markdown
from embedfleet.chunking.prose import line_strengths
from embedfleet.chunking.sentences import sentence_ends
from embedfleet.chunking.source_code import read_code
from embedfleet.chunking.strength import Strength
from embedfleet.chunking.words import Words, find_words
from embedfleet.queue_schemas import ChunkMethod


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sizes in characters that bound the memory for any text. They are part of the definition of an atom.

    `longest_atom`: a longer sentence is cut between words, a longer word anywhere. `longest_gap`: a longer
    run of white space ends a paragraph. `lookahead`: no border of an atom depends on text that is farther
    ahead. So it must exceed the two sizes above, and the length of a heading with its underline.
    `block`: segments are joined up to this size before a scan. The scanner reads the last `lookahead`
    characters again in each scan, so a scan of every small segment would take quadratic time.
    """

    longest_atom: int = 8192
    longest_gap: int = 1024
    lookahead: int = 9216
    block: int = 65_536


DEFAULT_BOUNDS = Bounds()

LineReader = Callable[[Characters, Lines, Resume], Marks]

_READERS: dict[str, LineReader] = {
    "text": lambda _characters, lines, _resume: unmarked(lines),
    "markdown": read_markdown,
    "code": read_code,
}
CONTENT_TYPES = tuple(_READERS)


@dataclass(frozen=True, slots=True)
class _Borders:
    """Where atoms start and end, and the strength of each start: aligned arrays, as in `Atoms`."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    strengths: NDArray[np.int8]

    def first(self, count: int) -> _Borders:
        return _Borders(self.starts[:count], self.ends[:count], self.strengths[:count])


_NO_BORDERS = _Borders(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8))


@dataclass(frozen=True, slots=True)
class Atoms:
    """Atoms of `text`, which begins at `offset` in the document. All other offsets are relative to `text`.

    `starts`, `ends`: int64 (n,), half-open spans, in order, with only white space between them.
    `strengths`: int8 (n,), the strength of the boundary before each atom. `above`: pairs of an offset and
    what stands above the text from there on.
    """

    text: str
    offset: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    strengths: NDArray[np.int8]
    above: list[tuple[int, Above]]

    def __len__(self) -> int:
        return len(self.starts)


def find_atoms(
    segments: Iterable[str], *, content_type: str, method: ChunkMethod, bounds: Bounds = DEFAULT_BOUNDS
) -> Iterator[Atoms]:
    """Find the atoms of a document. The yielded `text`s, joined, are the whole document.

    In memory are one segment and at most about `block` + 2 * `lookahead` more characters.
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
    """The segments, joined until each has at least `size_wanted` characters; the last may have fewer."""
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
    """Scans a document part by part; remembers at which offset and in which context it has stopped."""

    def __init__(self, read_lines: LineReader, bounds: Bounds, *, by_word: bool) -> None:
        self._read_lines = read_lines
        self._bounds = bounds
        self._by_word = by_word
        self._resume = Resume(Context(at_start=True))
        self._offset = 0

    def take(self, text: str, *, final: bool) -> Atoms:
        """Return the first atoms of `text`, as far as no later text can change them; all atoms if `final`.

        `text` must begin where the text of the last returned `Atoms` ended.
        """
        characters = look_up(text)
        words = find_words(characters)
        if not len(words):
            # The last `longest_gap` characters are kept: whether the gap is too long depends on what follows.
            size = len(text) if final else len(text) - self._bounds.longest_gap
            return self._close(text[:size], _NO_BORDERS, [], Resume(self._resume.context))
        lines = find_lines(
            characters,
            words,
            after_blank=self._resume.after_blank,
            longest_gap=self._bounds.longest_gap,
        )
        marks = self._read_lines(characters, lines, self._resume)
        strengths = self._word_strengths(characters, words, lines, marks)
        borders = self._borders(text, words, lines, strengths)
        if final:
            atoms = self._close(text, borders, marks.contexts, self._resume)
        else:
            atoms = self._take_certain(text, borders, lines, marks.contexts)
        # Words are split last: a scan must resume at a line or a sentence, as a word may be inside a heading.
        return _as_words(atoms, words) if self._by_word else atoms

    def _word_strengths(
        self, characters: Characters, words: Words, lines: Lines, marks: Marks
    ) -> NDArray[np.int8]:
        """int8 (n_words,): the strength of the boundary before each word."""
        ends = self._sentence_ends(characters, words, lines, marks)
        strengths = np.zeros(len(words), dtype=np.int8)
        strengths[1:][ends[:-1]] = Strength.SENTENCE
        last_words = np.append(lines.first_words[1:], len(words)) - 1
        by_prose = line_strengths(characters, lines, ends[last_words], self._resume.column)
        is_marked = marks.strengths != UNMARKED
        strengths[lines.first_words] = np.where(is_marked, marks.strengths, by_prose)
        after_gap = np.flatnonzero(words.starts[1:] - words.ends[:-1] > self._bounds.longest_gap) + 1
        strengths[after_gap] = np.maximum(strengths[after_gap], Strength.PARAGRAPH)
        strengths[0] = self._resume.strength or max(strengths[0], Strength.PARAGRAPH)
        return strengths

    def _sentence_ends(
        self, characters: Characters, words: Words, lines: Lines, marks: Marks
    ) -> NDArray[np.bool_]:
        """bool (n_words,): whether a sentence ends with the word. No sentence ends in a literal line."""
        first_in_line = np.zeros(len(words), dtype=np.bool_)
        first_in_line[lines.first_words] = True
        first_in_line[0] = self._resume.column == 0
        ends = sentence_ends(characters, words, first_in_line)
        if marks.literal.any():
            words_per_line = np.diff(np.append(lines.first_words, len(words)))
            ends[np.repeat(marks.literal, words_per_line)] = False
        return ends

    def _borders(self, text: str, words: Words, lines: Lines, strengths: NDArray[np.int8]) -> _Borders:
        """The borders of the atoms that begin at each word with a strength, cut to `longest_atom`."""
        first_words = np.flatnonzero(strengths)
        starts_by_word = words.starts.copy()
        starts_by_word[lines.first_words] = lines.starts
        borders = _Borders(
            starts_by_word[first_words],
            words.ends[np.append(first_words[1:], len(words)) - 1],
            strengths[first_words],
        )
        limit = self._bounds.longest_atom
        long = borders.ends - borders.starts > limit
        borders.starts[long] = words.starts[first_words[long]]  # the indentation is not cut
        spans = zip(borders.starts[long].tolist(), borders.ends[long].tolist(), strict=True)
        cuts = [cut for start, end in spans for cut in _cuts(text, words, start, end, limit)]
        return _cut(borders, words, cuts) if cuts else borders

    def _take_certain(
        self, text: str, borders: _Borders, lines: Lines, contexts: list[tuple[int, Context]]
    ) -> Atoms:
        """Return the atoms that end before the lookahead begins; the next scan resumes after them."""
        horizon = len(text) - self._bounds.lookahead
        if borders.ends[-1] < horizon:  # only white space follows, perhaps also in later text: stop in it
            size = len(text) - self._bounds.longest_gap
            resume = Resume(_context_before(size, contexts, self._resume))
            return self._close(text[:size], borders, contexts, resume)
        count = int(np.searchsorted(borders.starts, horizon, side="right")) - 1
        if count < 1:
            return self._close("", _NO_BORDERS, [], self._resume)
        size = int(borders.starts[count])
        line = int(np.searchsorted(lines.starts, size, side="right")) - 1
        column = max(size - int(lines.texts[line]), 0) + (self._resume.column if line == 0 else 0)
        context = _context_before(size, contexts, self._resume)
        resume = Resume(context, int(borders.strengths[count]), column)
        return self._close(text[:size], borders.first(count), contexts, resume)

    def _close(
        self, text: str, borders: _Borders, contexts: list[tuple[int, Context]], resume: Resume
    ) -> Atoms:
        """The atoms of `text`. The next scan begins after it."""
        above = [(offset, context.above) for offset, context in contexts if offset < len(text)]
        atoms = Atoms(text, self._offset, borders.starts, borders.ends, borders.strengths, above)
        self._offset += len(text)
        self._resume = resume
        return atoms


def _context_before(offset: int, contexts: list[tuple[int, Context]], resume: Resume) -> Context:
    """The context before `offset`: the next scan reads what stands at `offset` again."""
    before = [context for at, context in contexts if at < offset]
    return before[-1] if before else resume.context


def _cuts(text: str, words: Words, start: int, end: int, limit: int) -> list[tuple[int, Strength]]:
    """Where to cut a long atom: after as many words as fit, or inside a word that is longer than the limit.

    Each cut depends only on the one before it, so a scan that resumes at a cut finds the same later cuts.
    """
    cuts = []
    while end - start > limit:
        word = int(np.searchsorted(words.ends, start + limit, side="right"))
        if words.starts[word] > start:
            start, strength = int(words.starts[word]), Strength.WORD
        else:
            start, strength = before_cluster(text, start, start + limit), Strength.HARD
        cuts.append((start, strength))
    return cuts


def _as_words(atoms: Atoms, words: Words) -> Atoms:
    """The same text with each word as an atom of strength `WORD`, or `HARD` at hard cuts."""
    count = int(np.searchsorted(words.starts, len(atoms.text)))
    strengths = np.full(count, Strength.WORD, dtype=np.int8)
    hard = atoms.starts[atoms.strengths == Strength.HARD]
    strengths[np.isin(words.starts[:count], hard)] = Strength.HARD
    inside = [(int(offset), Strength.HARD) for offset in hard[~np.isin(hard, words.starts)]]
    ends = np.minimum(words.ends[:count], len(atoms.text))  # the last word may have been cut
    borders = _cut(_Borders(words.starts[:count], ends, strengths), words, inside)
    return replace(atoms, starts=borders.starts, ends=borders.ends, strengths=borders.strengths)


def _cut(borders: _Borders, words: Words, cuts: list[tuple[int, Strength]]) -> _Borders:
    """The borders with further ones inserted at the `cuts`, which are pairs of offset and strength."""
    offsets = np.array([offset for offset, _ in cuts], dtype=np.int64)
    strengths = np.array([strength for _, strength in cuts], dtype=np.int8)
    words_before = np.searchsorted(words.starts, offsets) - 1
    ends = np.minimum(words.ends[words_before], offsets)
    at = np.searchsorted(borders.starts, offsets)
    return _Borders(
        np.insert(borders.starts, at, offsets),
        np.sort(np.concatenate((borders.ends, ends))),
        np.insert(borders.strengths, at, strengths),
    )
