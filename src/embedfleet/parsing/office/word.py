"""Word documents (.docx, .docm, .dotx): their text as Word shows it, with notes and comments."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.errors import ParseError
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType
from embedfleet.parsing.office.blocks import BlockWriter
from embedfleet.parsing.office.package import Package
from embedfleet.parsing.office.word_body import BodyReader, has_title
from embedfleet.parsing.office.word_parts import Notes, WordParts
from embedfleet.visible_text import letters_in


def read_word(package: Package, main_part: str, root: Element, draft: Draft) -> ContentType:
    """Write the document. Holds the tree of each part in memory, about ten times the size of its XML."""
    body = root.find("w:body")
    if body is None:
        raise ParseError("is broken (it has no body): repair it or leave it out")
    parts = WordParts(package, main_part, draft)
    writer = BlockWriter(draft)
    reader = BodyReader(parts, has_title=has_title(body, parts))
    notes = _NoteWriter(reader, writer, parts)
    for block in reader.blocks(body):
        writer.add(block)
        notes.add_new()
    notes.add_new()
    writer.end()
    _note_running_heads(parts)
    if package.title is not None and package.title not in writer.first_text:
        draft.title = package.title
    return "markdown"


class _NoteWriter:
    """Adds each note to which the text refers once, with the label that stands in the text."""

    def __init__(self, reader: BodyReader, writer: BlockWriter, parts: WordParts) -> None:
        self._reader = reader
        self._writer = writer
        self._parts = parts
        self._added: set[tuple[str, str]] = set()

    def add_new(self) -> None:
        """Add the notes that were referred to since the last call, and those to which they refer."""
        while references := self._reader.take_notes():
            for notes, note_id in references:
                if (notes.kind, note_id) not in self._added:
                    self._added.add((notes.kind, note_id))
                    self._add(notes, note_id)

    def _add(self, notes: Notes, note_id: str) -> None:
        note = notes.by_id.get(note_id)
        if note is None:
            missing = f"{notes.kind} {note_id}: it is not in the file"
            self._parts.draft.note(Code.OFFICE_PART, chars=None, place=missing)
            return
        self._parts.draft.found(f"{notes.kind}s")
        self._writer.add_note(notes.label(note_id), self._reader.note_text(note))


def _note_running_heads(parts: WordParts) -> None:
    for kind in ("header", "footer"):
        texts = {"".join(text.text or "" for text in root.iter("w:t")) for root in parts.roots(kind)}
        for text in sorted(filter(str.strip, texts)):
            parts.draft.note(Code.RUNNING_HEAD, chars=letters_in(text))
