"""Tokenises atoms, and cuts those that are too large for a chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.atoms import Atoms
from embedfleet.chunking.packing import Limits
from embedfleet.chunking.strength import Strength
from embedfleet.chunking.tokenizers import Tokenizer
from embedfleet.chunking.words import hard_spans, word_spans
from embedfleet.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class TokenisedAtoms:
    """Like `Atoms`, with `token_ids`: uint32 (sum(lengths),), and `lengths`: int64 (n,), in tokens."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    strengths: NDArray[np.int8]
    token_ids: NDArray[np.uint32]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Piece:
    start: int
    end: int
    strength: int


def tokenise(atoms: Atoms, tokenizer: Tokenizer, limits: Limits, *, max_tokens: int) -> TokenisedAtoms:
    """Tokenise all atoms in one call. Cut atoms over the limits into words, and such words into parts.

    A part of a word begins with a `HARD` boundary. It is over the limits only if it is a single character.
    Raises InvalidRequest if such a character has more than `max_tokens` tokens.
    """
    text = atoms.text
    spans = zip(atoms.starts.tolist(), atoms.ends.tolist(), strict=True)
    token_ids, lengths = tokenizer.encode_batch([text[start:end] for start, end in spans])
    too_long = np.flatnonzero((lengths > limits.tokens) | (atoms.ends - atoms.starts > limits.chars))
    whole = TokenisedAtoms(atoms.starts, atoms.ends, atoms.strengths, token_ids, lengths)
    if not len(too_long):
        return whole
    fitting = _fit(text, _words_of(atoms, too_long), tokenizer, limits)
    _refuse_oversized_characters(text, atoms.offset, fitting, max_tokens)
    return _merge(whole, too_long, fitting)


def cut_to_characters(atoms: Atoms, limits: Limits) -> TokenisedAtoms:
    """Cut atoms with too many characters into words, and such words into parts.

    Tokenises nothing: the lengths are 0.
    """
    none = np.empty(0, dtype=np.uint32)
    lengths = np.zeros(len(atoms.starts), dtype=np.int64)
    whole = TokenisedAtoms(atoms.starts, atoms.ends, atoms.strengths, none, lengths)
    too_long = np.flatnonzero(atoms.ends - atoms.starts > limits.chars)
    if not len(too_long):
        return whole
    parts = [part for piece in _words_of(atoms, too_long) for part in _parts(atoms.text, piece, limits.chars)]
    return _merge(whole, too_long, _as_atoms(parts, none, np.zeros(len(parts), dtype=np.int64)))


def _words_of(atoms: Atoms, which: NDArray[np.int64]) -> list[_Piece]:
    pieces: list[_Piece] = []
    for atom in which.tolist():
        span = _Piece(int(atoms.starts[atom]), int(atoms.ends[atom]), int(atoms.strengths[atom]))
        pieces += _words(atoms.text, span)
    return pieces


def _as_atoms(
    pieces: list[_Piece], token_ids: NDArray[np.uint32], lengths: NDArray[np.int64]
) -> TokenisedAtoms:
    return TokenisedAtoms(
        np.array([piece.start for piece in pieces], dtype=np.int64),
        np.array([piece.end for piece in pieces], dtype=np.int64),
        np.array([piece.strength for piece in pieces], dtype=np.int8),
        token_ids,
        lengths,
    )


def _words(text: str, atom: _Piece) -> list[_Piece]:
    spans = word_spans(text[atom.start : atom.end])
    pieces = [_Piece(atom.start + start, atom.start + end, Strength.WORD) for start, end in spans]
    pieces[0] = _Piece(pieces[0].start, pieces[0].end, atom.strength)
    return pieces


def _fit(text: str, pieces: list[_Piece], tokenizer: Tokenizer, limits: Limits) -> TokenisedAtoms:
    """Cut the pieces to the character limit, then halve each one until its tokens fit."""
    pieces = [part for piece in pieces for part in _parts(text, piece, limits.chars)]
    while True:
        token_ids, lengths = tokenizer.encode_batch([text[piece.start : piece.end] for piece in pieces])
        over = set(np.flatnonzero(lengths > limits.tokens).tolist())
        over = {i for i in over if pieces[i].end - pieces[i].start > 1}
        if not over:
            return _as_atoms(pieces, token_ids, lengths)
        pieces = [
            part
            for i, piece in enumerate(pieces)
            for part in (_parts(text, piece, (piece.end - piece.start + 1) // 2) if i in over else [piece])
        ]


def _parts(text: str, piece: _Piece, limit: int) -> list[_Piece]:
    if piece.end - piece.start <= limit:
        return [piece]
    spans = hard_spans(text, piece.start, piece.end, limit)
    return [
        _Piece(start, end, piece.strength if start == piece.start else Strength.HARD) for start, end in spans
    ]


def _refuse_oversized_characters(text: str, offset: int, atoms: TokenisedAtoms, max_tokens: int) -> None:
    oversized = np.flatnonzero(atoms.lengths > max_tokens)
    if len(oversized):
        start, length = int(atoms.starts[oversized[0]]), int(atoms.lengths[oversized[0]])
        raise InvalidRequest(
            f"character {offset + start} ({text[start]!a}) is {length} tokens but the model takes "
            f"{max_tokens}: use a model with a larger limit"
        )


def _merge(whole: TokenisedAtoms, replaced: NDArray[np.int64], by: TokenisedAtoms) -> TokenisedAtoms:
    """`whole` with the atoms `by` in place of its atoms `replaced`."""
    keep = np.ones(len(whole.starts), dtype=np.bool_)
    keep[replaced] = False
    starts = np.concatenate((whole.starts[keep], by.starts))
    order = np.argsort(starts, kind="stable")
    lengths = np.concatenate((whole.lengths[keep], by.lengths))
    kept_ids = whole.token_ids[np.repeat(keep, whole.lengths)]
    token_ids = _reordered(np.concatenate((kept_ids, by.token_ids)), lengths, order)
    return TokenisedAtoms(
        starts[order],
        np.concatenate((whole.ends[keep], by.ends))[order],
        np.concatenate((whole.strengths[keep], by.strengths))[order],
        token_ids,
        lengths[order],
    )


def _reordered(
    token_ids: NDArray[np.uint32], lengths: NDArray[np.int64], order: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Reorder the runs of `token_ids`, whose lengths are `lengths`: run i of the result is run `order[i]`."""
    begins = np.cumsum(lengths) - lengths
    wanted = lengths[order]
    shifts = np.repeat(begins[order] - (np.cumsum(wanted) - wanted), wanted)
    reordered: NDArray[np.uint32] = token_ids[np.arange(len(token_ids)) + shifts]
    return reordered
