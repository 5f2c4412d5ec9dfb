"""Writes as text what marks in a line mean, as the marks are lost: powers, notes, deletions, quotations."""

from __future__ import annotations

import re
from itertools import chain, islice

from selectolax.lexbor import LexborNode

from embedfleet.parsing.html_formulas import grouped
from embedfleet.parsing.html_nodes import ancestors, outermost

_RAISED_STYLE = re.compile(r"vertical-align\s*:\s*(super|sub)\b", re.IGNORECASE)
_ORDINAL = re.compile(r"(\d|\b[IVXLCDM]+)$")
_NUMERO = re.compile(r"\b[Nn]$")
_ENDINGS_OF_ORDINALS = frozenset(
    ["st", "nd", "rd", "th", "e", "er", "re", "ère", "ème", "o", "a", "os", "as"]
)
_ABBREVIATED = re.compile(r"\b[A-Z][a-z]{0,2}$")
_ENDINGS_OF_ABBREVIATIONS = frozenset(["me", "mes", "lle", "lles", "r", "rs", "t", "te", "ie", "ve", "gr"])
_MARKS = frozenset(("tm", "sm", "®", "™", "©", "º", "ª"))
_ELEMENT = re.compile(r"(?![AI]\s)[A-Z][a-z]?\b")
_LABEL = re.compile(r"\d{1,3}([,;–-] ?\d{1,3})*|[*†‡]{1,3}")
_LABEL_IN_BRACKETS = re.compile(r"[\[(].{1,12}[\])]")
_END_OF_WORD = re.compile(r"([^\W\d_]+)$|[.,;:!?…”\"'’»]$")
_MOST_CLIMBED = 20  # elements around a mark that are looked at: a line has no more
_UNIT_LETTERS = 3  # a number after a word of more letters is that of a note; km² and sin² are powers
_UNITS = frozenset(
    (
        *("mile", "miles", "inch", "inches", "yard", "yards", "feet", "foot", "metre", "metres", "meter"),
        *("meters", "sinh", "cosh", "tanh", "second", "seconds", "hour", "hours"),
    )
)
_LINE_ENDS = frozenset(("p", "div", "li", "td", "th", "dd", "dt", "body", "section", "article", "pre"))
_REFERENCES = (
    'a[href*="#"], a[role="doc-noteref"], a[epub\\:type~="noteref"], a.footnote-ref, a.footnote-reference'
)
_NUMBER_OF_SECTION = re.compile(r"[\d.]+")
_BACK_LINKS = "a.footnote-back, a.footnote-backref, .mw-cite-backlink"
_BACK_LINK = re.compile(r"[\s\[(]*[↩↵⏎↑⤴^⇑🔙]\ufe0e?\s*[\])]?\s*")
_DELETED = (
    'del, s, strike, [style*="line-through"], .line-through, .strikethrough, .text-decoration-line-through'
)
_BLOCKS = "p, div, ul, ol, dl, li, dd, dt, table, td, th, pre, blockquote, section, h1, h2, h3, h4, h5, h6"
_FORMATTED = "code, kbd, samp, tt, img, br"


def write_marks_in_lines(body: LexborNode) -> None:
    """Replace the marks of the whole page by text that says the same."""
    for quotation in body.css("blockquote[cite]"):  # the converter would write where it is from
        del quotation.attrs["cite"]
    for annotation in body.css("rt"):
        annotation.replace_with(f"({annotation.text().strip()})")
    _drop_back_links(body)
    _write_raised_and_lowered(body)
    for link in outermost(body.css(_REFERENCES)):
        _write_reference(link)
    for node in outermost(body.css(_DELETED)):
        _mark_deleted(node)
    for node in reversed(body.css("q")):
        if node.text().strip():
            node.insert_before("“")
            node.insert_after("”")


def _drop_back_links(body: LexborNode) -> None:
    """Remove the links that lead from a note back to the text, which are signs and no text."""
    for node in outermost(body.css(_BACK_LINKS)):
        node.decompose()
    for link in body.css('a[href^="#"], a[href*="#"][role="doc-backlink"]'):
        if _BACK_LINK.fullmatch(link.text()):
            link.inner_html = ""


# --- what is raised and lowered ---


def _write_raised_and_lowered(body: LexborNode) -> None:
    # Innermost first: an outer mark then holds what the inner ones became.
    for node in reversed(body.css("sup, sub, span[style]")):
        style = _RAISED_STYLE.search(node.attributes.get("style") or "")
        if node.tag == "span" and style is None:
            continue
        is_raised = node.tag == "sup" if style is None else style[1].lower() == "super"
        text = " ".join(node.text().split())
        node.replace_with((_raised(node, text) if is_raised else _lowered(node, text)) if text else "")


def _raised(node: LexborNode, text: str) -> str:
    """The text of a `sup`: a power, an ordinal's ending, or the number of a note."""
    before = _text_before(node)
    if _leads_to_note(node):
        return _bracketed(text)
    if _LABEL_IN_BRACKETS.fullmatch(text):
        return text
    if text.lower() in _MARKS or _is_ending(text.lower(), before):
        return text
    if _LABEL.fullmatch(text):
        after = _text_after(node)
        stands_alone = not before.strip() or before[-1].isspace()
        if stands_alone and not _ELEMENT.match(after):
            return _bracketed(text) + (" " if after[:1].isalnum() else "")
        if _follows_a_word(before):
            return _bracketed(text)
    return f"^{grouped(text)}"


def _is_ending(text: str, before: str) -> bool:
    """Whether the text ends an ordinal or an abbreviation: 1st, XXe, nth, No, Mme."""
    if text in _ENDINGS_OF_ORDINALS and (_ORDINAL.search(before) or text == "th"):
        return True
    if text in ("o", "os"):
        return bool(_NUMERO.search(before))
    return text in _ENDINGS_OF_ABBREVIATIONS and bool(_ABBREVIATED.search(before))


def _follows_a_word(before: str) -> bool:
    """Whether the line ends with a word or a full stop, so that a raised number is no power."""
    end = _END_OF_WORD.search(before)
    if end is None:
        return False
    word = end[1]
    return word is None or (len(word) > _UNIT_LETTERS and word.lower() not in _UNITS)


def _lowered(node: LexborNode, text: str) -> str:
    """The text of a `sub`: `H2O` as it is written, `x_i` for an index."""
    return text if text.isdigit() and _text_before(node)[-1:].isalpha() else f"_{grouped(text)}"


# --- notes ---


def _leads_to_note(node: LexborNode) -> bool:
    """Whether a raised text is a link, or stands in one, that leads to a part of a page."""
    link = node.css_first("a[href]") or _link_around(node)
    return link is not None and "#" in (link.attributes.get("href") or "")


def _link_around(node: LexborNode) -> LexborNode | None:
    for parent in islice(ancestors(node), _MOST_CLIMBED):
        if parent.tag == "a":
            return parent
        if parent.tag in _LINE_ENDS:
            break
    return None


def _write_reference(link: LexborNode) -> None:
    """Put brackets around the number of a note that is written on, without a space, after a word."""
    text = link.text().strip()
    if not _LABEL.fullmatch(text):
        return
    attributes = link.attributes
    kind = (
        f"{attributes.get('role') or ''} {attributes.get('epub:type') or ''} {attributes.get('class') or ''}"
    )
    before = _text_before(link)
    is_named = any(name in kind for name in ("noteref", "footnote-ref"))
    is_written_on = bool(before) and not before[-1].isspace() and before[-1] not in "[(#"
    if is_named or (is_written_on and not _NUMBER_OF_SECTION.fullmatch(before.strip())):
        link.replace_with(_bracketed(text))


def _bracketed(text: str) -> str:
    return f"[{text.strip('[]() ')}]"


def _text_before(node: LexborNode) -> str:
    """The last text of the line before the element; empty at the beginning of the line."""
    for here in chain([node], islice(ancestors(node), _MOST_CLIMBED)):
        if here.tag in _LINE_ENDS:
            break
        previous = here.prev
        while previous is not None:
            if previous.tag in _LINE_ENDS or previous.tag == "br":
                return ""
            text = previous.text_content if previous.is_text_node else previous.text()
            if text:
                return str(text)
            previous = previous.prev
    return ""


def _text_after(node: LexborNode) -> str:
    following = node.next
    if following is None:
        return ""
    return str(following.text_content if following.is_text_node else following.text())


# --- deletions ---


def _mark_deleted(node: LexborNode) -> None:
    """Put `~~` around a deleted text; around that of each of its blocks, if it holds some."""
    blocks = node.css(_BLOCKS)
    for block in [one for one in blocks if one.mem_id != node.mem_id and not _holds_blocks(one)]:
        _surround(block)
    if not blocks or (len(blocks) == 1 and blocks[0].mem_id == node.mem_id):
        _surround(node)


def _holds_blocks(node: LexborNode) -> bool:
    return any(one.mem_id != node.mem_id for one in node.css(_BLOCKS))


def _surround(node: LexborNode) -> None:
    """Put marks around the text in the element. Nothing is between the marks and the text."""
    text = node.text()
    if not text.strip():
        return
    if node.css_first(_FORMATTED) is None:
        begin = " " if text[0].isspace() else ""
        end = " " if text[-1].isspace() else ""
        node.inner_html = ""
        node.insert_child(f"{begin}~~{text.strip()}~~{end}")
    elif (first := node.first_child) is not None:
        first.insert_before("~~")
        node.insert_child("~~")
