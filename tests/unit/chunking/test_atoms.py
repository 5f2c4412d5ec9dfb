"""Which lines and sentences a text falls into, and how good a place each is to begin a chunk."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from embedfleet.chunking.atoms import Bounds, find_atoms
from embedfleet.chunking.strength import Strength
from embedfleet.queue_schemas import ChunkMethod

AtomFinder = Callable[..., list[tuple[str, Strength]]]


@pytest.mark.parametrize(
    "sentences",
    [
        ["One. ", "Two! ", "Three? ", "Four… ", "Five."],
        ['He said "no." ', "She left."],
        ["(In brackets.) ", "Outside."],
        ["**Bold.** ", "Plain."],
        ["中文。", "第二句！", "「引用。」", "最后？"],
        ["नमस्ते। ", "दूसरा वाक्य।"],
        ["مرحبا؟ ", "نعم۔ ", "لا."],
        ["Это конец. ", "Новое предложение."],
        ["It was 2020. ", "Then came 2021."],
    ],
)
def test_a_sentence_ends_at_a_full_stop_of_any_script(atoms: AtomFinder, sentences: list[str]) -> None:
    assert [text for text, _ in atoms("".join(sentences))] == [sentence.rstrip() for sentence in sentences]


@pytest.mark.parametrize(
    "sentence",
    [
        "See Dr. Brown and Mrs. Green.",
        "As J. R. R. Tolkien wrote.",
        "It is 3.14 or 1.000,50 at most.",
        "Use pip etc. when needed, e.g. Here.",
        "See fig. 3 and No. 5 below.",
        "Das ist z.B. Wasser.",
        "Wait... what?",
        '"Why?" he asked.',
        "Visit www.example.com now.",
    ],
)
def test_abbreviations_initials_decimals_and_lower_case_do_not_end_a_sentence(
    atoms: AtomFinder, sentence: str
) -> None:
    assert [text for text, _ in atoms(sentence)] == [sentence]


def test_a_list_number_is_not_a_sentence_of_its_own(atoms: AtomFinder) -> None:
    assert [text for text, _ in atoms("1. First\n2. Second")] == ["1. First", "2. Second"]


def test_no_is_a_sentence_unless_a_number_follows(atoms: AtomFinder) -> None:
    assert [text for text, _ in atoms("No. Never.")] == ["No.", "Never."]


def test_a_wrapped_line_is_a_weaker_place_than_a_sentence(atoms: AtomFinder) -> None:
    text = "This line of running text was wrapped\nright here. Then a new sentence, also quite\nlong."
    assert [strength for _, strength in atoms(text)][1:] == [Strength.WRAP, Strength.SENTENCE, Strength.WRAP]


def test_short_lines_and_list_items_are_stronger_than_sentences(atoms: AtomFinder) -> None:
    assert atoms("Roses are red\nViolets are blue\n- one\n| a | b |")[1:] == [
        ("Violets are blue", Strength.LINE),
        ("- one", Strength.LINE),
        ("| a | b |", Strength.LINE),
    ]


@pytest.mark.parametrize("blank", ["\n\n", "\r\n\r\n", "\r\r", "\n \t\n", "\n\n\n\n"])
def test_a_blank_line_of_any_line_ending_begins_a_paragraph(atoms: AtomFinder, blank: str) -> None:
    assert atoms(f"one{blank}two")[1] == ("two", Strength.PARAGRAPH)


def test_a_form_feed_joins_words_because_the_tokeniser_joins_them(atoms: AtomFinder) -> None:
    assert [text for text, _ in atoms("One.\x0cTwo.")] == ["One.\x0cTwo."]


def test_indentation_belongs_to_the_atom(atoms: AtomFinder) -> None:
    assert [text for text, _ in atoms("def f():\n    return 1", "code")] == ["def f():", "    return 1"]


def test_a_scan_that_resumes_inside_a_line_does_not_take_it_for_a_lines_beginning() -> None:
    sentence = "It ends. # No heading. ``` No fence. 1. No item. "
    runs = find_atoms(
        [sentence] * 100,
        content_type="markdown",
        method=ChunkMethod.RECURSIVE,
        bounds=Bounds(longest_atom=100, longest_gap=300, lookahead=700, block=1),
    )
    texts = []
    for run in runs:
        assert {above.headings for _, above in run.above} <= {()}
        texts += [run.text[a:b] for a, b in zip(run.starts.tolist(), run.ends.tolist(), strict=True)]
    assert set(texts) == {"It ends.", "# No heading.", "``` No fence.", "1.", "No item."}


@pytest.mark.parametrize("text", ["a" * 1_000_000, "." * 1_000_000, "。" * 1_000_000, "a " * 500_000])
def test_a_megabyte_without_structure_is_cut_into_bounded_atoms(text: str) -> None:
    bounds = Bounds()
    runs = list(find_atoms([text], content_type="markdown", method=ChunkMethod.RECURSIVE))
    longest = max(int((run.ends - run.starts).max()) for run in runs if len(run))
    assert longest <= bounds.longest_atom
    assert "".join(run.text for run in runs) == text


def test_a_very_long_run_of_white_space_is_not_kept_in_memory(atoms: AtomFinder) -> None:
    scanned = find_atoms((" " * 70_000 for _ in range(5)), content_type="text", method=ChunkMethod.RECURSIVE)
    kept = 0
    for run, seen in zip(scanned, range(70_000, 350_001, 70_000), strict=False):
        kept = seen - (run.offset + len(run.text))
        assert kept <= Bounds().longest_gap
    assert kept > 0
