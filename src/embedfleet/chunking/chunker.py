"""Makes a document's chunks from its segments, and tokenises them on the way."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.atoms import CONTENT_TYPES, DEFAULT_BOUNDS, Atoms, Bounds, find_atoms
from embedfleet.chunking.characters import SPACES
from embedfleet.chunking.context import ContextMaker, shared_headings
from embedfleet.chunking.coverage import Coverage, CoverageMeter
from embedfleet.chunking.lines import Above
from embedfleet.chunking.packing import AtomTable, Limits, Span, next_span, overlap_start
from embedfleet.chunking.preparation import PREPARATION
from embedfleet.chunking.refining import cut_to_characters, tokenise
from embedfleet.chunking.tokenizers import Tokenizer
from embedfleet.errors import InvalidRequest
from embedfleet.queue_schemas import ChunkingConfig, ChunkUnit
from embedfleet.visible_text import shows_nothing

PARTITION_VERSION = 4
"""Raise it with every change that cuts the same document, configuration and tokeniser differently.

A generation that an older release has begun to cut is then cut again from its start, never continued.
"""

_MAX_CHARS_PER_TOKEN = 64
"""Bounds a chunk sized in tokens whose text has hardly any (white space, unknown words)."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A piece of a document. `text` is `document[start:end]`; offsets count characters.

    `heading`: the titles of the headings above the chunk's new text, outermost first; for source code, the
    names of the enclosing definitions.

    `context`: what stands above the text and is embedded before it, "" for nothing. `token_ids`: uint32 (n,),
    the tokens of `context + text` without special tokens. `context_tokens`: how many of them are the
    context's.

    `unknown`: what of the text the model does not know, as half-open spans of the document, one for each
    unknown token. `read_otherwise`: whether the tokens are those of other characters than the text has.
    """

    index: int
    start: int
    end: int
    heading: tuple[str, ...]
    text: str
    token_ids: NDArray[np.uint32]
    context: str = ""
    context_tokens: int = 0
    unknown: tuple[tuple[int, int], ...] = ()
    read_otherwise: bool = False

    @property
    def reading(self) -> str:
        """By which rules its text is read, for its id; "" if its tokens are those of the text as it is."""
        return PREPARATION if self.read_otherwise else ""


class Chunker:
    """Cuts documents by one configuration.

    Guarantees for every document:

    - Each character that shows is in some chunk, unless the tokeniser makes no token of all that is around
      it. No chunk is without a token or shows nothing.
    - No chunk has more than `max_tokens` tokens, counted by tokenising its context and its text.
    - The text of no chunk has more than `config.chunk_size` of `config.unit`, unless it is a single character
      that alone has more tokens.
    - No chunk begins or ends inside of a grapheme cluster, unless the cluster is larger than a chunk.
    - The starts of the chunks increase, and so do their ends.
    - Consecutive chunks share at most `config.overlap`, in whole atoms.
    - The chunks depend only on the document's text and title, the configuration and the tokeniser, and not on
      where the segments are cut.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: ChunkingConfig,
        *,
        max_tokens: int,
        content_type: str = "text",
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> None:
        """`max_tokens`: the model's limit without special tokens. `content_type`: one of `CONTENT_TYPES`.
        `bounds`: smaller ones let a test reach the borders between scans with short documents.

        Raises InvalidRequest if `max_tokens` or `content_type` is not valid.
        """
        if max_tokens < 1:
            raise InvalidRequest(f"max_tokens must be at least 1, not {max_tokens}")
        if content_type not in CONTENT_TYPES:
            known = ", ".join(CONTENT_TYPES)
            raise InvalidRequest(f"unknown content type {content_type!r}: use one of {known}")
        self._tokenizer = tokenizer
        self._config = config
        self._max_tokens = max_tokens
        self._content_type = content_type
        self._bounds = bounds
        self._meter = CoverageMeter()

    @property
    def coverage(self) -> Coverage:
        """The coverage of the last document, as far as it has been split."""
        return self._meter.coverage

    def split(self, segments: Iterable[str], *, title: str | None = None) -> Iterator[list[Chunk]]:
        """Cut the document that the segments make up; yields its chunks in order, some at a time.

        `title`: what the document calls itself, if its text does not begin with that.

        Reads a segment only when it needs it, and keeps only that segment and the current chunk in memory.
        Raises InvalidRequest if a single character has more tokens than the model takes.
        """
        self._meter = CoverageMeter()
        contexts = self._contexts(title)
        packer = _Packer(self._tokenizer, self._config, self._limits(), self._max_tokens, contexts)
        runs = find_atoms(
            segments, content_type=self._content_type, method=self._config.method, bounds=self._bounds
        )
        for atoms in runs:
            self._meter.read(atoms.text)
            if contexts is not None and not contexts.title and self._content_type == "markdown":
                contexts.title = _first_heading(atoms)
            packer.add(atoms)
            yield from self._measured(packer.pack(final=False))
        yield from self._measured(packer.pack(final=True))

    def whole(self, texts: Sequence[str], titles: Sequence[str | None]) -> list[Chunk | None]:
        """Return, for each text, its only chunk if the whole document makes one; None if it must be `split`.

        `titles` are those of the texts, in order. A short text is a chunk whatever is in it, so its lines and
        sentences are not looked for, and all texts are tokenised in one call. `split` gives the same chunk,
        with a coverage of 1. The answer may be None for a text that would make one chunk.
        """
        limits = self._limits()
        trimmed = [text.rstrip(SPACES) if self._may_be_whole(text, limits) else "" for text in texts]
        some = [i for i, text in enumerate(trimmed) if not shows_nothing(text)]
        chunks: list[Chunk | None] = [None] * len(texts)
        if not some:
            return chunks
        token_ids, lengths = self._tokenizer.encode_batch([trimmed[i] for i in some])
        ends = np.cumsum(lengths).tolist()
        for i, end, length in zip(some, ends, lengths.tolist(), strict=True):
            if 0 < length <= limits.tokens:
                chunks[i] = self._only_chunk(trimmed[i], token_ids[end - length : end], titles[i])
        return chunks

    def _only_chunk(self, text: str, token_ids: NDArray[np.uint32], title: str | None) -> Chunk | None:
        """The chunk of a whole document; None if there is no room for the title."""
        chunk = Chunk(
            index=0,
            start=0,
            end=len(text),
            heading=(),
            text=text,
            token_ids=token_ids,
            unknown=unknown_spans(self._tokenizer, text, token_ids),
            read_otherwise=self._tokenizer.reads_otherwise(text),
        )
        if not title or not self._config.context:
            return chunk
        contexts = ContextMaker(self._tokenizer, title, self._max_tokens)
        if len(token_ids) + contexts.most_tokens(Above()) > self._max_tokens:
            return None
        return _in_context(chunk, contexts, Above())

    def _contexts(self, title: str | None) -> ContextMaker | None:
        return ContextMaker(self._tokenizer, title or "", self._max_tokens) if self._config.context else None

    def _may_be_whole(self, text: str, limits: Limits) -> bool:
        """Whether the text is short enough for one chunk, if it has few enough tokens.

        A format other than plain text may have headings. White space at the start may belong to the first
        line's indentation. Where atoms are counted in tokens of their own, those of the whole text decide
        nothing. A longer text than an atom may be cut inside of a word.
        """
        return (
            self._content_type == "text"
            and (self._tokenizer.concatenable or self._config.unit is ChunkUnit.CHARS)
            and 0 < len(text) <= min(limits.chars, self._bounds.longest_atom)
            and text[0] not in SPACES
        )

    def _limits(self) -> Limits:
        """The configuration's limits in both tokens and characters.

        If the model's limit is below the configured chunk size, the overlap shrinks in proportion. Otherwise
        such a chunk could consist of overlap almost entirely, and a document would have far too many chunks.
        """
        size, overlap = self._config.chunk_size, self._config.overlap
        if self._config.unit is ChunkUnit.CHARS:
            tokens, chars = self._max_tokens, size
        else:
            tokens = min(size, self._max_tokens)
            chars = tokens * _MAX_CHARS_PER_TOKEN
        return Limits(tokens, chars, tokens * overlap // size, chars * overlap // size)

    def _measured(self, chunks: list[Chunk]) -> Iterator[list[Chunk]]:
        for chunk in chunks:
            self._meter.cover(chunk.start, chunk.end)
        if chunks:
            yield chunks


def unknown_spans(
    tokenizer: Tokenizer, text: str, token_ids: NDArray[np.uint32], *, offset: int = 0
) -> tuple[tuple[int, int], ...]:
    """What of the text the model does not know, as spans of the document in which it begins at `offset`."""
    if tokenizer.unknown_id is None or not (token_ids == tokenizer.unknown_id).any():
        return ()
    return tuple((offset + start, offset + end) for start, end in tokenizer.unknown_spans(text))


class _Packer:
    """Makes chunks of the atoms; keeps the text and atoms that a later chunk may still contain.

    If the token ids of a chunk are those of its atoms (`Tokenizer.concatenable`), or if chunks are sized in
    tokens, the atoms are tokenised from the start. Otherwise the tokens of the atoms matter only if a chunk
    has too many. So chunks are packed by characters alone, up to the first such chunk of the document.

    `_start` is the atom with which the next chunk begins, overlap included; `_fresh` is its first new atom.
    With `contexts`, each chunk leaves room for its context among the tokens that the model takes.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: ChunkingConfig,
        limits: Limits,
        max_tokens: int,
        contexts: ContextMaker | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._method = config.method
        self._limits = limits
        self._max_tokens = max_tokens
        self._contexts = contexts
        self._counting = tokenizer.concatenable or config.unit is ChunkUnit.TOKENS
        self._table = AtomTable()
        self._text = ""
        self._text_offset = 0
        self._token_ids: NDArray[np.uint32] = np.empty(0, dtype=np.uint32)
        self._above_offsets: list[int] = [0]
        self._above: list[Above] = [Above()]
        self._start = 0
        self._fresh = 0
        self._index = 0
        # One look at all of a scanned text takes hardly longer than a look at one chunk. So chunks are looked
        # at only if they have one of these atoms, or begin before this offset.
        self._atoms_with_unknown: list[int] = []
        self._otherwise_before = 0

    def add(self, atoms: Atoms) -> None:
        """Add the atoms that follow those added before."""
        self._add_to_table(atoms)
        if self._tokenizer.reads_otherwise(atoms.text):
            self._otherwise_before = atoms.offset + len(atoms.text)
        self._text += atoms.text
        for offset, above in atoms.above:
            self._above_offsets.append(offset + atoms.offset)
            self._above.append(above)

    def _add_to_table(self, atoms: Atoms) -> None:
        """Add the atoms, cut to the limits."""
        if self._counting:
            cut = tokenise(atoms, self._tokenizer, self._limits, max_tokens=self._max_tokens)
        else:
            cut = cut_to_characters(atoms, self._limits)
        token_sums = np.cumsum(cut.lengths) + self._table.token_sums[-1]
        if self._tokenizer.unknown_id is not None:
            unknown = np.flatnonzero(cut.token_ids == self._tokenizer.unknown_id)
            with_unknown = np.searchsorted(token_sums - self._table.token_sums[-1], unknown, side="right")
            self._atoms_with_unknown += (cut.starts[with_unknown] + atoms.offset).tolist()
        self._table.extend(
            (cut.starts + atoms.offset).tolist(),
            (cut.ends + atoms.offset).tolist(),
            cut.strengths.tolist(),
            token_sums.tolist(),
        )
        if self._tokenizer.concatenable:
            self._token_ids = np.concatenate((self._token_ids, cut.token_ids))

    def pack(self, *, final: bool) -> list[Chunk]:
        """Make the chunks that no later text can change; all remaining chunks if `final`."""
        chunks: list[Chunk] = []
        while self._fresh < len(self._table):
            limits = self._limits_with_context()
            span = next_span(self._table, self._start, self._fresh, limits, self._method, final=final)
            if span is None:
                break
            token_ids = self._token_ids_of(span)
            if len(token_ids) > limits.tokens and not self._counting:
                self._start_counting()
                continue
            shortened = self._shortened(span, token_ids, limits, final=final)
            if shortened is None:
                break
            span, token_ids = shortened
            chunk = self._chunk(span, token_ids)
            if len(token_ids) and not shows_nothing(chunk.text):
                chunks.append(chunk)
                self._index += 1
            self._start, self._fresh = overlap_start(self._table, span, self._limits), span.end
        self._drop_passed()
        return chunks

    def _limits_with_context(self) -> Limits:
        """The limits of the next chunk, which leave room for its context.

        What stands above the chunk is estimated from its first new atom. Later text, which may not be in the
        table yet, could only make the context shorter.
        """
        if self._contexts is None:
            return self._limits
        fresh = self._table.starts[self._fresh]
        reserved = self._contexts.most_tokens(self._above_chunk(self._table.starts[self._start], fresh))
        return replace(self._limits, tokens=min(self._limits.tokens, self._max_tokens - reserved))

    def _above_chunk(self, start: int, body: int) -> Above:
        """What stands above a chunk that begins at `start`, but is not in its text. `body`: where its text
        begins that is new and no heading."""
        # A heading's own offset is where its line begins. So a chunk that begins there has it in its text.
        before = self._above[max(bisect_left(self._above_offsets, start) - 1, 0)]
        at_start = self._above[bisect_right(self._above_offsets, start) - 1]
        headings = shared_headings(before.headings, self._above_at(body).headings)
        return Above(headings, at_start.table_header)

    def _above_at(self, offset: int) -> Above:
        return self._above[bisect_right(self._above_offsets, offset) - 1]

    def _start_counting(self) -> None:
        """Tokenise the atoms in the table, and from now on each atom that is added."""
        self._counting = True
        before, self._table = self._table, AtomTable()
        start, fresh = before.starts[self._start], before.starts[self._fresh]
        self._add_to_table(
            Atoms(
                text=self._text,
                offset=self._text_offset,
                starts=np.array(before.starts, dtype=np.int64) - self._text_offset,
                ends=np.array(before.ends, dtype=np.int64) - self._text_offset,
                strengths=np.array(before.strengths, dtype=np.int8),
                above=[],
            )
        )
        # Tokenising may have split atoms, which changes their numbers, but not the offsets where they begin.
        self._start = bisect_left(self._table.starts, start)
        self._fresh = bisect_left(self._table.starts, fresh)

    def _token_ids_of(self, span: Span) -> NDArray[np.uint32]:
        if self._tokenizer.concatenable:
            origin = self._table.token_sums[0]
            first, last = self._table.token_sums[span.start], self._table.token_sums[span.end]
            return self._token_ids[first - origin : last - origin].copy()
        token_ids, _ = self._tokenizer.encode_batch([self._span_text(span)])
        return token_ids

    def _shortened(
        self, span: Span, token_ids: NDArray[np.uint32], limits: Limits, *, final: bool
    ) -> tuple[Span, NDArray[np.uint32]] | None:
        """The span and its token ids, shortened until the ids are within the limit.

        The atoms' own ids always are, but those of the joined text may be more.

        Each round asks for proportionally fewer characters. So the loop ends, at a single atom at the latest.
        None if a round depends on atoms that are not in the table yet; never with `final`.
        """
        while len(token_ids) > limits.tokens and span.end - span.start > 1:
            chars = len(self._span_text(span)) * limits.tokens // len(token_ids)
            fewer = replace(limits, chars=chars)
            # Fewer characters may leave no room for the overlap. The span then starts later, and may end
            # later than the one before it: even past the atoms that have been read.
            shorter = next_span(self._table, span.start, span.fresh, fewer, self._method, final=final)
            if shorter is None:
                return None
            span, token_ids = shorter, self._token_ids_of(shorter)
        return span, token_ids

    def _chunk(self, span: Span, token_ids: NDArray[np.uint32]) -> Chunk:
        start = self._table.starts[span.start]
        body = self._table.starts[self._table.first_body(span.fresh, span.end)]
        end = self._table.ends[span.end - 1]
        text = self._span_text(span)
        chunk = Chunk(
            index=self._index,
            start=start,
            end=end,
            heading=self._above_at(body).headings,
            text=text,
            token_ids=token_ids,
            unknown=(
                unknown_spans(self._tokenizer, text, token_ids, offset=start)
                if not self._tokenizer.concatenable or self._has_unknown_atom(start, end)
                else ()
            ),
            read_otherwise=start < self._otherwise_before and self._tokenizer.reads_otherwise(text),
        )
        if self._contexts is None:
            return chunk
        return _in_context(chunk, self._contexts, self._above_chunk(start, body))

    def _has_unknown_atom(self, start: int, end: int) -> bool:
        return bisect_left(self._atoms_with_unknown, start) < bisect_left(self._atoms_with_unknown, end)

    def _span_text(self, span: Span) -> str:
        start, end = self._table.starts[span.start], self._table.ends[span.end - 1]
        return self._text[start - self._text_offset : end - self._text_offset]

    def _drop_passed(self) -> None:
        """Drop the text, atoms and headings that no later chunk can contain."""
        count = self._start
        keep_from = (
            self._table.starts[count] if count < len(self._table) else self._text_offset + len(self._text)
        )
        self._text = self._text[keep_from - self._text_offset :]
        self._text_offset = keep_from
        if self._tokenizer.concatenable:
            dropped = self._table.token_sums[count] - self._table.token_sums[0]
            self._token_ids = self._token_ids[dropped:]
        self._table.drop(count)
        self._fresh -= count
        self._start = 0
        # The next chunk needs what stands above the character before it, too.
        del self._atoms_with_unknown[: bisect_left(self._atoms_with_unknown, keep_from)]
        passed = max(bisect_left(self._above_offsets, keep_from) - 1, 0)
        del self._above_offsets[:passed], self._above[:passed]


def _in_context(chunk: Chunk, contexts: ContextMaker, above: Above) -> Chunk:
    """The chunk with its context, of which there is as much as the model has room for."""
    room = contexts.max_tokens - len(chunk.token_ids)
    context = contexts.context(above, chunk.text, room=room)
    context, token_ids = contexts.before(context, chunk.text, chunk.token_ids)
    return replace(
        chunk, context=context, token_ids=token_ids, context_tokens=len(token_ids) - len(chunk.token_ids)
    )


def _first_heading(atoms: Atoms) -> str:
    """The heading with which the text begins; "" if it begins with other text."""
    if not len(atoms):
        return ""
    headings = [above.headings for offset, above in atoms.above if offset <= atoms.starts[0]]
    return headings[-1][-1] if headings and headings[-1] else ""
