"""Writes as text what marks in a line mean, as the marks are lost: powers, deletions, formulas."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from embedfleet.account import Code
from embedfleet.parsing.draft import Draft

_ORDINALS = frozenset(["st", "nd", "rd", "th", "e", "er", "re", "ère", "ème", "o", "a", "os", "as", "º", "ª"])
_MARKS = frozenset(("tm", "sm", "®", "™", "©"))
_TEX = re.compile(r"tex", re.IGNORECASE)
_HEADINGS = "h1, h2, h3, h4, h5, h6"
# Buttons that show and hide text are its headings. Others do something, and say nothing of the page.
_REVEALING = (
    *("aria-expanded", "aria-controls", "data-toggle", "data-bs-toggle", "data-target", "data-bs-target"),
)
_MARKED = 'math, script[type^="math/tex"], svg, rt, sup, sub, del, s, strike, q'
_NOTE_NUMBER = re.compile(r"[\[(]?(\d{1,3}|[*†‡]{1,3})[\])]?")
_TITLES = frozenset(("h1", "h2", "h3", "h4", "h5", "h6", "summary", "dt"))
_DEEPEST_HEADING = 6
_WORDS_OF_A_TITLE = 3  # the description of an image in a link: shorter ones are names of icons and logos


def write_marks(tree: LexborHTMLParser, draft: Draft) -> None:
    """Replace the marks of the whole page. Buttons, images and formulas are replaced, too."""
    body = tree.body
    if body is None:
        return
    _write_buttons(tree, body, draft)
    # Innermost first: an outer mark then holds what the inner ones became.
    for node in reversed(_each_once(body.css(_MARKED))):
        match node.tag:
            case "math":
                _write(node, _formula(node))
            case "script":
                _write(node, f"${node.text().strip()}$")
            case "svg":
                _write(node, " ".join(text for one in node.css("text") if (text := one.text().strip())))
            case "rt":
                _write(node, f"({node.text().strip()})")
            case "sup":
                _write(node, _raised(node))
            case "sub":
                _write(node, _lowered(node))
            case "q":
                _surround(node, "“", "”")
            case _:
                _surround(node, "~~", "~~")
    for link in body.css("a[href]"):
        if _is_note_reference(link):
            _write(link, f"[{link.text().strip('[]() ')}]")
    _write_images(body, draft)


def _is_note_reference(link: LexborNode) -> bool:
    """Whether a link is the number of a note. It is marked as one, or stands at the end of a word."""
    attributes = link.attributes
    if not _NOTE_NUMBER.fullmatch(text := link.text().strip()):
        return False
    if attributes.get("role") == "doc-noteref" or "noteref" in (attributes.get("epub:type") or ""):
        return True
    is_near = "#" in (attributes.get("href") or "")
    return is_near and text.isdigit() and _text_before(link)[-1:].isalnum()


def _each_once(nodes: list[LexborNode]) -> list[LexborNode]:
    return list({node.mem_id: node for node in nodes}.values())


def _write(node: LexborNode, text: str) -> None:
    node.replace_with(text)


def _surround(node: LexborNode, before: str, after: str) -> None:
    """Put marks around the text of an element, if it has any. Nothing is between the marks and the text."""
    if node.text().strip() and node.css_first("p, div, ul, ol, table, pre") is None:
        node.insert_before(before)
        node.insert_after(after)


# --- sup, sub ---


def _raised(node: LexborNode) -> str:
    """The text of a `sup`: a power, an ordinal's ending, or the number of a note."""
    text = " ".join(node.text().split())
    if not text:
        return ""
    before = _text_before(node)
    is_note = node.css_first("a") is not None or (not before.strip() and text.isdigit())
    if is_note:
        return f"[{text.strip('[]')}]"
    if text.lower() in _MARKS or (text.lower() in _ORDINALS and before[-1:].isdigit()):
        return text
    if before[-1:].isalpha() and text.isalpha() and len(text) > 1:  # Mme, Dr: an abbreviation
        return text
    return "^" + _grouped(text)


def _lowered(node: LexborNode) -> str:
    """The text of a `sub`: `H2O` as it is written, `x_i` for an index."""
    text = " ".join(node.text().split())
    if not text:
        return ""
    if text.isdigit() and _text_before(node)[-1:].isalnum():
        return text
    return "_" + _grouped(text)


def _grouped(text: str) -> str:
    """The text, in brackets if a reader could not tell where it ends."""
    return text if re.fullmatch(r"[-+−–]?\w+|\W", text) else f"({text})"


def _text_before(node: LexborNode) -> str:
    """The last characters of the line before the element."""
    here: LexborNode | None = node
    while here is not None and here.tag not in ("p", "div", "li", "td", "th", "body"):
        previous = here.prev
        if previous is not None:
            return str(previous.text_content if previous.is_text_node else previous.text())
        here = here.parent
    return ""


# --- formulas ---


def _formula(math: LexborNode) -> str:
    """A formula as TeX, if the page has it, otherwise in one line."""
    for annotation in math.css("annotation"):
        if _TEX.search(annotation.attributes.get("encoding") or ""):
            return f"${annotation.text().strip()}$"
    if alternative := (math.attributes.get("alttext") or "").strip():
        return f"${alternative}$"
    for annotation in math.css("annotation, annotation-xml"):
        annotation.decompose()
    return _linear(math, 0)


_DEEPEST_FORMULA = 40  # levels of nesting: real formulas have ten


def _linear(node: LexborNode, depth: int) -> str:
    if node.is_text_node:
        return " ".join((node.text_content or "").split())
    if depth > _DEEPEST_FORMULA:
        return " ".join(node.text().split())
    parts = [_linear(child, depth + 1) for child in _children(node)]
    writer = _FORMULA_WRITERS.get(node.tag or "")
    if writer is not None and len(parts) in writer[0]:
        return writer[1](parts)
    if node.tag == "mtr":
        return ", ".join(parts)
    if node.tag == "mtable":
        return "[" + "; ".join(parts) + "]"
    if node.tag == "mo" and parts and parts[0] not in "()[]{}|,.!′":
        return f" {parts[0]} " if len(parts[0]) > 1 or not parts[0].isalnum() else parts[0]
    return "".join(parts).strip() if node.tag == "math" else "".join(parts)


def _children(node: LexborNode) -> Iterator[LexborNode]:
    for child in node.iter(include_text=True):
        if not child.is_text_node or (child.text_content or "").strip():
            yield child


def _group(text: str) -> str:
    return _grouped(text.strip())


_FORMULA_WRITERS: dict[str, tuple[tuple[int, ...], Callable[[list[str]], str]]] = {
    "mfrac": ((2,), lambda parts: f"{_group(parts[0])}/{_group(parts[1])}"),
    "msup": ((2,), lambda parts: f"{_group(parts[0])}^{_group(parts[1])}"),
    "msub": ((2,), lambda parts: f"{_group(parts[0])}_{_group(parts[1])}"),
    "msubsup": ((3,), lambda parts: f"{_group(parts[0])}_{_group(parts[1])}^{_group(parts[2])}"),
    "munder": ((2,), lambda parts: f"{parts[0]}_{_group(parts[1])}"),
    "mover": ((2,), lambda parts: f"{parts[0]}^{_group(parts[1])}"),
    "munderover": ((3,), lambda parts: f"{parts[0]}_{_group(parts[1])}^{_group(parts[2])} "),
    "msqrt": (tuple(range(1, 50)), lambda parts: f"√({''.join(parts).strip()})"),
    "mroot": ((2,), lambda parts: f"{_group(parts[0])}^(1/{parts[1].strip()})"),
    "mfenced": (tuple(range(50)), lambda parts: f"({', '.join(parts)})"),
}


# --- buttons, images ---


def _write_buttons(tree: LexborHTMLParser, body: LexborNode, draft: Draft) -> None:
    """Make headings of the buttons that show text; drop the others.

    A button in a heading is its text. One that stands alone is a level below the heading before it.
    """
    level = 1
    for node in body.css(f'{_HEADINGS}, button, [role="button"]'):
        tag = node.tag or ""
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            level = int(tag[1])
            continue
        text = " ".join(node.text().split())
        if any(parent.tag in _TITLES for parent in _parents(node)):
            node.unwrap()
        elif node.attributes.get("role") == "tab":
            _write(node, f" {text} ")
        elif text and (text.endswith("?") or any(name in node.attributes for name in _REVEALING)):
            heading = tree.create_node(f"h{min(level + 1, _DEEPEST_HEADING)}")
            node.insert_before(heading)
            inserted = node.prev
            assert inserted is not None
            inserted.insert_child(text)
            node.decompose()
        elif tag == "button":
            if text:
                draft.note(Code.HTML_CONTROLS, chars=len("".join(text.split())), place="button")
            node.decompose()


def _parents(node: LexborNode) -> Iterator[LexborNode]:
    """The three elements around a node: a button is not deeper in its heading."""
    for _ in range(3):
        parent = node.parent
        if parent is None:
            return
        yield parent
        node = parent


def _write_images(body: LexborNode, draft: Draft) -> None:
    """Replace images by their descriptions. Those of logos and icons in links say nothing."""
    in_links = {image.mem_id for image in body.css("a img")}
    for image in body.css("img"):
        description = (image.attributes.get("alt") or "").strip()
        if image.mem_id in in_links and len(description.split()) < _WORDS_OF_A_TITLE:
            description = ""
        elif not description and "alt" not in image.attributes:
            draft.note(Code.HTML_IMAGE, chars=None)
        image.replace_with(description)
