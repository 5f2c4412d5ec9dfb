"""The text of one paragraph of a Word document, from its runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from embedfleet.account_codes import Code
from embedfleet.parsing.office.alternatives import ALTERNATIVES, chosen
from embedfleet.parsing.office.drawings import Drawing, read_drawing
from embedfleet.parsing.office.equations import latex
from embedfleet.parsing.office.scripts import Script, joined
from embedfleet.parsing.office.symbols import has_private_characters, shown
from embedfleet.parsing.office.word_parts import Notes, WordParts
from embedfleet.parsing.office.word_styles import whole_number
from embedfleet.parsing.office.xml_part import descend, is_on
from embedfleet.visible_text import letters_in

# Characters that stand for themselves.
_CHARACTERS = {
    "w:tab": " ",
    "w:ptab": " ",
    "w:br": "\n",
    "w:cr": "\n",
    "w:noBreakHyphen": "-",
}
_DRAWINGS = frozenset({"w:drawing", "w:pict", "w:object"})
# Tracked changes: what is deleted, or was moved to another place, is no longer part of the document.
_DELETED = frozenset({"w:del", "w:moveFrom"})
_SKIPPED = frozenset({"w:pPr", "w:rPr", "w:sdtPr", "w:sdtEndPr", "w:instrText", "w:delText", "w:rt"})


@dataclass
class Line:
    """The text of a paragraph while it is read, and what stands beside it."""

    pieces: list[tuple[Script, str]] = field(default_factory=list)
    boxes: list[Element] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)
    notes: list[tuple[Notes, str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the text, in which scripts are written as `10^6` and struck text as `~~old~~`."""
        return joined(self.pieces)


@dataclass
class _Field:
    """A field such as a page number or a table of contents. Its code ends where its result begins."""

    code: str = ""
    has_result: bool = False
    form: Element | None = None


class TextReader:
    """Reads paragraphs in the order of the document, as a field may begin in one and end in another."""

    def __init__(self, parts: WordParts) -> None:
        self._parts = parts
        self._fields: list[_Field] = []

    @property
    def in_contents(self) -> bool:
        """Whether what comes next is in a table of contents or an index that Word makes."""
        return any(one.code.split()[:1] in (["TOC"], ["INDEX"]) for one in self._fields)

    def read(self, paragraph: Element, *, hidden: bool) -> Line:
        """Return the text of a paragraph. `hidden`: its style hides it, unless a run says otherwise."""
        line = Line()
        self._walk(paragraph, line, hidden)
        # The code of a field does not cross paragraphs in practice. Without this, all text after a damaged
        # field would be taken for its code.
        while self._fields and not self._fields[-1].has_result:
            self._fields.pop()
        return line

    def _walk(self, node: Element, line: Line, hidden: bool) -> None:
        for child in node:
            tag = child.tag
            if tag == "w:r":
                self._run(child, line, hidden)
            elif tag in _DELETED:
                self._note_deleted(child)
            elif tag == "m:oMath":
                line.pieces.append(("", f"${latex(child).strip()}$"))
            elif tag == "m:oMathPara":
                formulas = (latex(one).strip() for one in child.iter("m:oMath"))
                line.pieces.append(("", " ".join(f"$${formula}$$" for formula in formulas)))
            elif tag == ALTERNATIVES:
                if (choice := chosen(child)) is not None:
                    self._walk(choice, line, hidden)
            elif tag == "w:sdt":
                self._content_control(child, line, hidden)
            elif tag in _DRAWINGS:
                self._drawing(child, line)
            elif tag not in _SKIPPED:
                self._walk(child, line, hidden)

    def _content_control(self, control: Element, line: Line, hidden: bool) -> None:
        content = control.find("w:sdtContent")
        if content is None:
            return
        if is_on(descend(control, "w:sdtPr", "w:showingPlcHdr")):
            prompt = "".join(text.text or "" for text in content.iter("w:t"))
            self._parts.draft.note(Code.OFFICE_PROMPT, chars=letters_in(prompt))
        else:
            self._walk(content, line, hidden)

    def _note_deleted(self, deleted: Element) -> None:
        texts = [text.text or "" for tag in ("w:delText", "w:t") for text in deleted.iter(tag)]
        if chars := letters_in("".join(texts)):
            self._parts.draft.note(Code.OFFICE_DELETED, chars=chars)

    def _run(self, run: Element, line: Line, hidden: bool) -> None:
        properties = run.find("w:rPr")
        script: Script = ""
        font: str | None = None
        if properties is not None:
            hidden = self._is_hidden(properties, hidden)
            script, font = _script(properties), self._font(properties)
        if hidden:
            self._note_hidden(run)
            return
        for child in run:
            self._run_content(child, line, script, font)

    def _run_content(self, child: Element, line: Line, script: Script, font: str | None) -> None:
        tag = child.tag
        if tag in ("w:fldChar", "w:instrText"):
            self._field_mark(child, line)
        elif self._fields and not self._fields[-1].has_result:
            return  # the code of a field
        elif tag == "w:t":
            line.pieces.append((script, self._shown_text(child.text or "", font)))
        elif tag in _CHARACTERS:
            line.pieces.append(("", _CHARACTERS[tag]))
        elif tag == "w:sym":
            code = child.get("w:char", "")
            symbol = shown(
                int(code, 16) if re.fullmatch("[0-9A-Fa-f]{1,6}", code) else 0, child.get("w:font")
            )
            line.pieces.append((script, self._known(symbol, child.get("w:font"))))
        elif tag == "w:footnoteReference":
            self._reference(self._parts.footnotes, child, line)
        elif tag == "w:endnoteReference":
            self._reference(self._parts.endnotes, child, line)
        elif tag == "w:commentReference":
            line.comments.append(child.get("w:id", ""))
        elif tag == "w:ruby":
            self._ruby(child, line)
        elif tag in _DRAWINGS:
            self._drawing(child, line)
        elif tag == ALTERNATIVES and (choice := chosen(child)) is not None:
            for alternative in choice:
                self._run_content(alternative, line, script, font)

    def _is_hidden(self, properties: Element, hidden: bool) -> bool:
        vanish, style = properties.find("w:vanish"), properties.find("w:rStyle")
        if vanish is not None:
            return is_on(vanish)
        return hidden or (style is not None and self._parts.styles.is_hidden(style.get("w:val")))

    def _font(self, properties: Element) -> str | None:
        fonts, style = properties.find("w:rFonts"), properties.find("w:rStyle")
        if fonts is not None:
            return fonts.get("w:ascii") or fonts.get("w:hAnsi")
        return None if style is None else self._parts.styles.font(style.get("w:val"))

    def _note_hidden(self, run: Element) -> None:
        for child in run:
            if child.tag == "w:fldChar":
                self._field_mark(child, Line())
        if chars := letters_in("".join(text.text or "" for text in run.iter("w:t"))):
            self._parts.draft.note(Code.HIDDEN, chars=chars, place="hidden text")

    def _field_mark(self, mark: Element, line: Line) -> None:
        kind = mark.get("w:fldCharType")
        if kind == "begin":
            self._fields.append(_Field(form=mark.find("w:ffData")))
        elif not self._fields:
            return
        elif mark.tag == "w:instrText":
            self._fields[-1].code += mark.text or ""
        elif kind == "separate":
            self._fields[-1].has_result = True
        elif kind == "end":
            line.pieces.append(("", _form_value(self._fields.pop().form)))

    def _shown_text(self, text: str, font: str | None) -> str:
        if not has_private_characters(text) and (font or "").lower() != "symbol":
            return text
        if not has_private_characters(text):
            return "".join(shown(ord(char), font) or char for char in text)
        return "".join(
            self._known(shown(ord(char), font or "Symbol"), font) if has_private_characters(char) else char
            for char in text
        )

    def _known(self, symbol: str | None, font: str | None) -> str:
        if symbol is None:
            self._parts.draft.note(Code.OFFICE_SYMBOL, chars=1, place=f"of the font {font}" if font else None)
        return symbol or ""

    def _reference(self, notes: Notes, reference: Element, line: Line) -> None:
        note_id = reference.get("w:id", "")
        line.pieces.append(("", f"[^{notes.label(note_id)}]"))
        line.notes.append((notes, note_id))

    def _ruby(self, ruby: Element, line: Line) -> None:
        """Write the base, and how it is read in brackets."""
        base, reading = ruby.find("w:rubyBase"), ruby.find("w:rt")
        if base is not None:
            self._walk(base, line, hidden=False)
        said = "" if reading is None else "".join(text.text or "" for text in reading.iter("w:t"))
        if said:
            line.pieces.append(("", f"({said})"))

    def _drawing(self, node: Element, line: Line) -> None:
        drawing = read_drawing(node, self._parts.draft)
        line.boxes += drawing.boxes
        if drawing.description:
            line.pieces.append(("", f" {drawing.description} "))
        if drawing.charts or drawing.diagrams:
            line.drawings.append(drawing)


def _script(properties: Element) -> Script:
    if is_on(properties.find("w:strike")) or is_on(properties.find("w:dstrike")):
        return "struck"
    position = properties.find("w:vertAlign")
    value = "" if position is None else position.get("w:val", "")
    scripts: dict[str, Script] = {"superscript": "above", "subscript": "below"}
    return scripts.get(value, "")


def _form_value(form: Element | None) -> str:
    """Return what a check box or a list of a form shows; a text field has its value as result."""
    if form is None:
        return ""
    box, choices = form.find("w:checkBox"), form.find("w:ddList")
    if box is not None:
        checked = box.find("w:checked")
        return "☒" if is_on(box.find("w:default") if checked is None else checked) else "☐"
    if choices is not None:
        entries = [entry.get("w:val", "") for entry in choices.findall("w:listEntry")]
        result = choices.find("w:result")
        place = 0 if result is None else whole_number(result.get("w:val"), default=0)
        return entries[place] if place < len(entries) else ""
    return ""
