"""Packing by tables of atoms: limits, boundaries, overlap."""

from __future__ import annotations

import pytest

from embedfleet.chunking.packing import AtomTable, Limits, Span, next_span, overlap_start
from embedfleet.chunking.strength import Strength
from embedfleet.queue_schemas import ChunkMethod

W, G, S, P, H = Strength.WORD, Strength.GLUED, Strength.SENTENCE, Strength.PARAGRAPH, Strength.HARD


def table(*strengths: Strength, tokens: int = 10, chars: int = 10) -> AtomTable:
    """Atoms of equal size, `chars` long with one space between, `tokens` tokens each."""
    atoms = AtomTable()
    count = len(strengths)
    atoms.extend(
        starts=[i * (chars + 1) for i in range(count)],
        ends=[i * (chars + 1) + chars for i in range(count)],
        strengths=[int(strength) for strength in strengths],
        token_sums=[(i + 1) * tokens for i in range(count)],
    )
    return atoms


def limits(tokens: int = 1000, chars: int = 1000, overlap: int = 0) -> Limits:
    return Limits(tokens, chars, overlap, overlap)


def spans(
    atoms: AtomTable, limit: Limits, method: ChunkMethod = ChunkMethod.RECURSIVE
) -> list[tuple[int, int]]:
    """(start, end) of all chunks."""
    found, start, fresh = [], 0, 0
    while fresh < len(atoms):
        span = next_span(atoms, start, fresh, limit, method, final=True)
        assert span is not None
        assert span.end > fresh
        found.append((span.start, span.end))
        start, fresh = overlap_start(atoms, span, limit), span.end
    return found


def test_the_token_limit_is_reached_but_not_passed() -> None:
    assert spans(table(*[W] * 7), limits(tokens=30)) == [(0, 3), (3, 6), (6, 7)]
    assert spans(table(*[W] * 7), limits(tokens=29)) == [(0, 2), (2, 4), (4, 6), (6, 7)]


def test_the_character_limit_counts_the_white_space_between_atoms() -> None:
    assert spans(table(*[W] * 4), limits(chars=21)) == [(0, 2), (2, 4)]
    assert spans(table(*[W] * 4), limits(chars=20)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_a_chunk_ends_at_the_last_of_the_strongest_boundaries_in_its_last_half() -> None:
    assert spans(table(W, W, W, W, S, S, W, W, W), limits(tokens=60)) == [(0, 5), (5, 9)]


def test_a_strong_boundary_in_the_first_half_does_not_count() -> None:
    assert spans(table(W, P, W, W, W, W, W), limits(tokens=60))[0] == (0, 6)


def test_without_a_boundary_in_the_last_half_what_is_glued_moves_to_the_next_chunk() -> None:
    # Heading (3) and its text (4) are glued; the chunk may hold 4 atoms, the heading would end it.
    assert spans(table(P, S, S, P, G, S), limits(tokens=40)) == [(0, 3), (3, 6)]


def test_a_chunk_of_glued_atoms_only_is_cut_all_the_same() -> None:
    assert spans(table(P, G, G, G), limits(tokens=20)) == [(0, 2), (2, 4)]


def test_sentences_are_not_cut_while_they_fit() -> None:
    atoms = table(P, S, W, S, W, S, W)
    assert spans(atoms, limits(tokens=40), ChunkMethod.SENTENCES) == [(0, 3), (3, 7)]


def test_paragraphs_are_not_cut_while_they_fit_and_else_at_their_best_place() -> None:
    atoms = table(P, S, P, S, S, S, W, W)
    assert spans(atoms, limits(tokens=40), ChunkMethod.PARAGRAPHS) == [(0, 2), (2, 5), (5, 8)]


def test_overlap_gives_way_where_a_sentence_would_be_cut_for_it() -> None:
    atoms = table(P, S, S, W, W, W)
    assert spans(atoms, limits(tokens=40, overlap=20), ChunkMethod.SENTENCES) == [(0, 2), (2, 6)]


def test_overlap_is_whole_atoms_within_its_limit() -> None:
    assert spans(table(*[W] * 6), limits(tokens=40, overlap=25)) == [(0, 4), (2, 6)]
    assert spans(table(*[W] * 6), limits(tokens=40, overlap=9)) == [(0, 4), (4, 6)]


def test_overlap_begins_at_a_strong_boundary_if_half_of_it_remains() -> None:
    atoms = table(W, W, W, W, S, W, W, W, W)
    span = next_span(atoms, 0, 0, limits(tokens=70), ChunkMethod.TOKENS, final=True)
    assert span is not None
    assert overlap_start(atoms, Span(0, 0, 7), limits(tokens=70, overlap=50)) == 4


def test_overlap_never_repeats_a_whole_chunk() -> None:
    assert overlap_start(table(W, W), Span(0, 0, 1), limits(overlap=900)) == 1


def test_a_chunk_ends_at_a_hard_cut_however_little_it_holds() -> None:
    assert spans(table(W, H, W, W, W), limits(tokens=40)) == [(0, 1), (1, 5)]


def test_overlap_does_not_cross_a_hard_cut() -> None:
    assert spans(table(W, W, H, W, W, W), limits(tokens=40, overlap=30)) == [(0, 2), (2, 6)]


def test_overlap_shrinks_so_that_a_new_atom_fits() -> None:
    atoms = AtomTable()
    atoms.extend([0, 11, 22, 33], [10, 21, 32, 73], [int(W)] * 4, [10, 20, 30, 70])
    assert spans(atoms, limits(tokens=60, overlap=50)) == [(0, 3), (1, 4)]


@pytest.mark.parametrize("method", ChunkMethod)
def test_nothing_is_decided_before_the_atom_that_does_not_fit_is_seen(method: ChunkMethod) -> None:
    atoms = table(*[P] * 3)
    assert next_span(atoms, 0, 0, limits(tokens=30), method, final=False) is None
    assert next_span(atoms, 0, 0, limits(tokens=30), method, final=True) == Span(0, 0, 3)
    assert next_span(table(*[P] * 4), 0, 0, limits(tokens=30), method, final=False) == Span(0, 0, 3)


def test_an_atom_over_the_limit_is_a_chunk_of_its_own() -> None:
    assert spans(table(*[W] * 3), limits(tokens=5)) == [(0, 1), (1, 2), (2, 3)]


def test_dropped_atoms_leave_the_numbers_of_the_others_in_order() -> None:
    atoms = table(W, W, H, W)
    atoms.drop(1)
    assert (atoms.starts[0], atoms.hard, atoms.token_sums) == (11, [1], [10, 20, 30, 40])
