"""Makes questions with known answers from a tenant's own titles and headings.

A known item is something that exists and is looked for again. The question is a title or a heading, the right
answer is the document, or the part of it under the heading.

What such a question measures, and what it does not. The words of a heading are embedded with each chunk below
it, as the context of the chunk, and often begin the chunk's own text. So the answer holds the question word
for word, in the spaces of both models alike. If it is not found, the model is broken, vectors are damaged, or
documents are missing. Such questions tell that well, and need no labels. But they are easier than what people
ask: two good models find most of the answers, and their difference is smaller than with questions in other
words. To choose between good models, take labelled questions, the log of queries, or interleaving.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from embedfleet.evaluation.questions import Answer, Question

PER_DOCUMENT = 3
"""Questions of one document at most. A manual of 500 headings would be most of the sample otherwise."""

_LONGEST = 300
# "3.2.1 ", "(4) ", "A.1 ", "IV. ": the number of a heading, which people who look for it do not know.
_NUMBER = re.compile(r"^[\s(]*(?:\d{1,2}(?:\.\d{1,3})*|[A-Z](?:\.\d{1,3})+|[IVX]+(?=[.)]))[.):]*\s+")
_FILE_NAME = re.compile(r"\S+\.[A-Za-z0-9]{1,5}")


class LeftOut(StrEnum):
    """Why a title or heading makes no question. The values are stable: they are stored and sent."""

    NO_WORDS = "no_words"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    FILE_NAME = "file_name"
    SHARED = "shared"
    REPEATED = "repeated"
    ENOUGH_OF_ITS_DOCUMENT = "enough_of_its_document"


@dataclass(frozen=True, slots=True)
class Heading:
    """A passage of a document with the heading above it, the innermost one. An empty one is no heading.

    `title` is that of the document. `start` and `end` are the characters of the passage.
    """

    document: str
    title: str
    heading: str
    start: int
    end: int
    language: str = ""
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class KnownItems:
    """The questions that were drawn. `candidates` is how many could be asked; `left_out` counts the others.

    Both count different texts: a heading of a thousand documents is one that is left out as `SHARED`.
    """

    questions: tuple[Question, ...]
    candidates: int
    left_out: Mapping[LeftOut, int]


def draw(
    passages: Iterable[Heading], count: int, *, seed: int, per_document: int = PER_DOCUMENT
) -> KnownItems:
    """Draw up to `count` questions, each title or heading with the same chance. A seed gives one sample.

    The passages come document by document, and in the order of its text within each: this shows whether the
    passages of a heading follow one another. A text that several documents have is left out, as more than one
    answer would be right. So is a heading that stands at two places of its document.
    """
    found = _Found()
    for passage in passages:
        found.add(passage)
    left_out: Counter[LeftOut] = Counter()
    askable: list[_Item] = []
    for item in found.items.values():
        reason = item.flaw or _unfit(item.text)
        if reason is None:
            askable.append(item)
        else:
            left_out[reason] += 1
    # Sorted first, so that the sample does not depend on the order in which the database gives documents.
    askable.sort(key=lambda item: item.key)
    Random(seed).shuffle(askable)
    taken: list[_Item] = []
    of_document: Counter[str] = Counter()
    for item in askable:
        if of_document[item.document] == per_document:
            left_out[LeftOut.ENOUGH_OF_ITS_DOCUMENT] += 1
        else:
            of_document[item.document] += 1
            taken.append(item)
    return KnownItems(
        tuple(item.question() for item in taken[: max(0, count)]),
        candidates=len(taken),
        left_out=dict(left_out),
    )


@dataclass(slots=True)
class _Item:
    """A text that may become a question. `span` is None for a title, whose answer is the whole document."""

    key: str
    text: str
    document: str
    span: tuple[int, int] | None
    language: str
    content_type: str
    flaw: LeftOut | None = None

    def question(self) -> Question:
        return Question(
            question_id=self.key,
            text=self.text,
            answers=(Answer(self.document, self.span),),
            language=self.language,
            content_type=self.content_type,
        )


class _Found:
    """The texts that were met, by their normal form."""

    def __init__(self) -> None:
        self.items: dict[str, _Item] = {}
        self._last_heading = ("", "")

    def add(self, passage: Heading) -> None:
        """Note the title and the heading of a passage."""
        title, heading = question_of(passage.title), question_of(passage.heading)
        if title:
            self._note(passage, title, None)
        # A document often begins with its title as a heading: that is one question, for the document.
        if heading and _key(heading) != _key(title):
            self._note(passage, heading, (passage.start, passage.end))
        self._last_heading = (passage.document, _key(heading))

    def _note(self, passage: Heading, text: str, span: tuple[int, int] | None) -> None:
        key = _key(text)
        item = self.items.get(key)
        if item is None:
            self.items[key] = _Item(key, text, passage.document, span, passage.language, passage.content_type)
        elif item.document != passage.document:
            item.flaw = LeftOut.SHARED
        elif span is None or item.span is None:
            # A title, or a heading with the words of the title: the document is the answer.
            item.span = None
        elif self._last_heading == (passage.document, key):
            item.span = (min(item.span[0], span[0]), max(item.span[1], span[1]))
        else:
            item.flaw = item.flaw or LeftOut.REPEATED


def question_of(text: str) -> str:
    """Return a title or heading as it is asked: on one line, without its number."""
    return _NUMBER.sub("", " ".join(text.split()))


def _key(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _unfit(text: str) -> LeftOut | None:
    """Return why a text is no question that can be looked for; None if it is one."""
    letters = [letter for letter in text if letter.isalpha()]
    if not letters:
        return LeftOut.NO_WORDS
    if len(text) > _LONGEST:
        return LeftOut.TOO_LONG
    if _FILE_NAME.fullmatch(text):
        return LeftOut.FILE_NAME
    # "Notes" could be about anything. A long word says as much as two short ones, and a Chinese, Japanese or
    # Korean letter (a wide one) as much as several of an alphabet.
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in letters)
    enough = len(letters) >= 20 or wide >= 4 or (len(text.split()) >= 2 and len(letters) >= 10)
    return None if enough else LeftOut.TOO_SHORT
