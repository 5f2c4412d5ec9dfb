"""Reads source code: its lines are the atoms, and definitions are its headings."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.characters import Characters
from embedfleet.chunking.lines import Context, Lines, Marks, Resume
from embedfleet.chunking.strength import Strength

_DEFINITION = re.compile(
    r"(?:async[ \t]+)?(?:def[ \t]+(\w{1,200})[ \t]*[(\[]|class[ \t]+(\w{1,200})[ \t]*[(:\[])"
)
_CLOSERS_AND_COMMENTS = np.array([ord(character) for character in ")]}#/*\"'"])
_DECORATOR = ord("@")
_DEFINITION_STARTS = np.array([ord(character) for character in "acd@"])
_UNDERSCORE = ord("_")


def read_code(characters: Characters, lines: Lines, resume: Resume) -> Marks:
    """Mark each line as an atom. A chunk best begins at a top-level line after a blank one, or at a
    definition.

    What a decorator decorates is glued to it. The heading path names the enclosing Python classes and
    functions, which are found by indentation.
    """
    first = characters.points[lines.texts]
    strengths = np.where(lines.after_blank, Strength.PARAGRAPH, Strength.LINE).astype(np.int8)
    top_level = lines.indents == 0
    strengths[top_level & lines.after_blank & ~np.isin(first, _CLOSERS_AND_COMMENTS[:3])] = Strength.HEADING_2
    marks = Marks(strengths, np.ones(len(lines), dtype=np.bool_))
    if resume.strength == Strength.GLUED:
        strengths[0] = Strength.GLUED
    candidates = np.isin(first, _DEFINITION_STARTS) | (top_level & _may_start_name(first))
    context = resume.context
    for line in np.flatnonzero(candidates).tolist():
        if line > 0 or resume.column == 0:
            context = _read_line(
                characters.text, lines, marks, context, line, decorator=first[line] == _DECORATOR
            )
    return marks


def _read_line(
    text: str, lines: Lines, marks: Marks, context: Context, line: int, *, decorator: bool
) -> Context:
    indent = int(lines.indents[line])
    definition = _DEFINITION.match(text, int(lines.texts[line]))
    if definition or decorator:
        _strengthen(lines, marks, line, Strength.HEADING_2 if indent == 0 else Strength.HEADING_6)
    if decorator and line + 1 < len(lines):
        marks.strengths[line + 1] = Strength.GLUED
    if definition:
        headings = context.under(indent, definition[1] or definition[2])
    elif indent == 0 and not decorator:
        headings = ()
    else:
        return context
    if headings != context.headings:
        context = replace(context, headings=headings)
        marks.contexts.append((int(lines.starts[line]), context))
    return context


def _strengthen(lines: Lines, marks: Marks, line: int, strength: Strength) -> None:
    """Raise the strength of a line, unless it belongs to a comment or decorator right above it."""
    if marks.strengths[line] != Strength.GLUED and (line == 0 or lines.after_blank[line]):
        marks.strengths[line] = max(strength, marks.strengths[line])


def _may_start_name(first: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Whether a line's first character may start a name (ASCII)."""
    lowered = first | 0x20
    names: NDArray[np.bool_] = ((lowered >= ord("a")) & (lowered <= ord("z"))) | (first == _UNDERSCORE)
    return names
