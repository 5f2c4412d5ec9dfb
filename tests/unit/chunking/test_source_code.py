"""Source code: where chunks begin, and the path of definitions around them."""

from __future__ import annotations

from collections.abc import Callable

from embedfleet.chunking.chunker import Chunk
from embedfleet.chunking.strength import Strength

AtomFinder = Callable[..., list[tuple[str, Strength]]]
Splitter = Callable[..., list[Chunk]]

SOURCE = '''\
import os


@cached
def first(x):
    """Does it."""
    y = x

    return y


class Thing(Base):
    size = 1

    def method(self):
        return 2

    async def other(self):
        return 3


value = Thing()
'''


def test_top_level_definitions_are_stronger_than_methods_than_blank_lines_than_lines(
    atoms: AtomFinder,
) -> None:
    strengths = dict(atoms(SOURCE, "code"))
    assert strengths["@cached"] == strengths["class Thing(Base):"] == strengths["value = Thing()"]
    assert (
        strengths["@cached"]
        > strengths["    def method(self):"]
        > strengths["    return y"]
        > strengths["    y = x"]
    )


def test_a_decorator_stays_with_what_it_decorates(atoms: AtomFinder) -> None:
    assert dict(atoms(SOURCE, "code"))["def first(x):"] == Strength.GLUED


def test_sentences_are_not_looked_for_in_code(atoms: AtomFinder) -> None:
    assert [text for text, _ in atoms("print('One. Two.') # Three. Four.", "code")] == [
        "print('One. Two.') # Three. Four."
    ]


def test_the_path_names_the_enclosing_python_definitions(split: Splitter) -> None:
    chunks = split(SOURCE, content_type="code", chunk_size=45, overlap=0)
    assert [(chunk.text.split()[0], chunk.heading) for chunk in chunks] == [
        ("import", ()),
        ('"""Does', ("first",)),
        ("class", ("Thing",)),
        ("def", ("Thing", "method")),
        ("async", ("Thing", "other")),
        ("value", ()),
    ]


def test_a_decorated_definition_is_named_by_the_definition(split: Splitter) -> None:
    (chunk,) = split("@cached\ndef f():\n    return 1", content_type="code")
    assert chunk.heading == ("f",)


def test_prose_that_mentions_a_class_is_no_definition(split: Splitter) -> None:
    assert split("def f():\n    '''\n    class of things\n    def of it\n    '''", content_type="code")[
        0
    ].heading == ("f",)
