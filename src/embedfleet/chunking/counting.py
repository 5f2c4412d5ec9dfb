"""Counts the tokens of a text as its model takes them: exactly, and without a chunker."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from embedfleet.chunking.segments import segment_spans
from embedfleet.chunking.tokenizers import Tokenizer

# The fast tokenizer takes texts of up to 16,384 characters. Pieces of half that size leave room for a long
# word at the end of one.
_PIECE_CHARS = 8_192
_BLANKS = " \n"
# Pieces in one call: they keep all cores busy, and are a quarter of a million characters in memory.
_PIECES_AT_ONCE = 32


def count_tokens(text: str, tokenizer: Tokenizer) -> int:
    """Return how many token ids the tokenizer makes of the text, without special tokens. This blocks.

    A text is cut before blanks and ends of lines if the tokenizer's ids of a text are those of its parts. So
    the number is that of the whole text. With another tokenizer it is the sum over the text's segments.
    """
    if len(text) <= _PIECE_CHARS:
        return _count([text], tokenizer)
    if not tokenizer.concatenable:
        return sum(_count([text[start:end]], tokenizer) for start, end in segment_spans(text))
    pieces = _pieces(text)
    total = 0
    while at_once := list(islice(pieces, _PIECES_AT_ONCE)):
        total += _count(at_once, tokenizer)
    return total


def _count(texts: list[str], tokenizer: Tokenizer) -> int:
    _, lengths = tokenizer.encode_batch(texts)
    return int(lengths.sum())


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = _end_of_piece(text, start)
        yield text[start:end]
        start = end


def _end_of_piece(text: str, start: int) -> int:
    """Return where the piece that begins at `start` ends: before the last blank in reach, or else before the
    first one after it."""
    limit = start + _PIECE_CHARS
    if limit >= len(text):
        return len(text)
    before = max(text.rfind(blank, start + 1, limit) for blank in _BLANKS)
    if before > 0:
        return before
    after = [found for blank in _BLANKS if (found := text.find(blank, limit)) >= 0]
    return min(after, default=len(text))
