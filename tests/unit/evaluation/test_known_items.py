from __future__ import annotations

import pytest

from embedfleet.evaluation.known_items import Heading, LeftOut, draw
from embedfleet.evaluation.questions import Answer


def passage(document: str, heading: str, start: int = 0, *, title: str = "") -> Heading:
    return Heading(document, title, heading, start, start + 100, "en", "markdown")


def test_a_heading_is_a_question_whose_answer_is_all_that_is_below_it() -> None:
    found = draw(
        [passage("d", "3.2 Rotating the keys", 0), passage("d", "3.2 Rotating the keys", 80)], 10, seed=1
    )
    (question,) = found.questions
    assert question.text == "Rotating the keys"
    assert question.answers == (Answer("d", span=(0, 180)),)
    assert (question.language, question.content_type) == ("en", "markdown")
    assert (found.candidates, found.left_out) == (1, {})


@pytest.mark.parametrize(
    ("heading", "asked"),
    [
        ("(4) Backing up a server", "Backing up a server"),
        ("A.1: Backing up a server", "Backing up a server"),
        ("IV. Backing up a server", "Backing up a server"),
        ("2024 in figures and charts", "2024 in figures and charts"),
        ("I/O errors of a disk", "I/O errors of a disk"),
    ],
)
def test_a_heading_is_asked_without_its_number(heading: str, asked: str) -> None:
    assert [question.text for question in draw([passage("d", heading)], 1, seed=1).questions] == [asked]


def test_a_title_is_a_question_whose_answer_is_the_document() -> None:
    text = "How to rotate keys"
    found = draw(
        [passage("d", text, title=text), passage("d", "The next part of it", 100, title=text)], 10, seed=1
    )
    answers = {question.text: question.answers[0].span for question in found.questions}
    assert answers == {"How to rotate keys": None, "The next part of it": (100, 200)}


def test_what_several_documents_have_is_no_known_item() -> None:
    """However it is written, and whether it is a title or a heading."""
    found = draw(
        [
            passage("a", "Terms and  Conditions"),
            passage("b", "1. TERMS and conditions"),
            passage("c", "", title="terms and conditions"),
        ],
        10,
        seed=1,
    )
    assert found.questions == ()
    assert found.left_out == {LeftOut.SHARED: 1}


def test_a_heading_at_two_places_of_a_document_is_left_out() -> None:
    found = draw(
        [
            passage("d", "Exercises of this part"),
            passage("d", "Something else here", 100),
            passage("d", "Exercises of this part", 200),
        ],
        10,
        seed=1,
    )
    assert [question.text for question in found.questions] == ["Something else here"]
    assert found.left_out == {LeftOut.REPEATED: 1}


def test_what_is_left_out_is_counted_by_its_reason() -> None:
    headings = [
        "2.1",
        "42 – 17",
        "Notes",
        "See also",
        "scan_0042.pdf",
        "word " * 80,
        "安装和配置",
        "",
        "Datenschutzverordnungen",
    ]
    found = draw([passage(f"d{number}", heading) for number, heading in enumerate(headings)], 10, seed=1)
    assert {question.text for question in found.questions} == {"安装和配置", "Datenschutzverordnungen"}
    assert found.left_out == {
        LeftOut.NO_WORDS: 2,
        LeftOut.TOO_SHORT: 2,
        LeftOut.FILE_NAME: 1,
        LeftOut.TOO_LONG: 1,
    }


def test_a_long_document_does_not_fill_the_sample() -> None:
    manual = [passage("manual", f"Setting number {number} of all", number * 100) for number in range(50)]
    found = draw([*manual, passage("letter", "An answer to your letter")], 100, seed=1)
    assert len(found.questions) == found.candidates == 4
    assert found.left_out == {LeftOut.ENOUGH_OF_ITS_DOCUMENT: 47}


def test_a_seed_gives_one_sample_whatever_the_order_of_the_documents() -> None:
    documents = [passage(f"d{number}", f"What is said of thing {number}") for number in range(200)]
    one, again = draw(documents, 20, seed=7), draw(documents[::-1], 20, seed=7)
    assert one.questions == again.questions
    assert len({question.question_id for question in one.questions}) == 20
    assert one.questions != draw(documents, 20, seed=8).questions
    assert (one.candidates, draw(documents, 0, seed=7).questions) == (200, ())
