"""Writes the formulas of a page as text: as TeX, if the page has it, otherwise in one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from selectolax.lexbor import LexborNode

_TEX = re.compile(r"tex", re.IGNORECASE)
_DISPLAY_STYLE = re.compile(r"\\(display|text)style *")
_TEX_SCRIPT = 'script[type^="math/tex"]'
_WHOLE_FORMULA = ".mwe-math-element, mjx-container"
"""What MediaWiki and MathJax 3 put around the two forms of one formula, one of which is not seen."""

_DRAWN_FORMULA = ".katex-html, .MathJax_Preview"
_DRAWN_BESIDE_TEX = ".MathJax, .MathJax_Display, .MathJax_SVG, .MathJax_CHTML"
"""The glyphs of a formula, beside the script with its TeX."""


def write_formulas(body: LexborNode) -> None:
    """Replace every formula by its text, once, however often the page has it."""
    for whole in reversed(body.css(_WHOLE_FORMULA)):
        text = _written_once(whole)
        if text:
            whole.replace_with(text)
    for drawn in body.css(_DRAWN_FORMULA):
        drawn.decompose()
    if body.css_first(_TEX_SCRIPT) is not None:
        for drawn in reversed(body.css(_DRAWN_BESIDE_TEX)):
            drawn.decompose()
    for math in body.css("math"):
        math.replace_with(_formula(math))
    for script in body.css(_TEX_SCRIPT):
        script.replace_with(_tex(script.text()))


def _written_once(whole: LexborNode) -> str:
    """The text of a formula that is there in two forms; empty if neither is known."""
    if (math := whole.css_first("math")) is not None:
        return _formula(math)
    image = whole.css_first("img[alt]")
    return _tex(image.attributes.get("alt") or "") if image is not None else ""


def _tex(source: str) -> str:
    """TeX between dollar signs, without what only says how large it is."""
    tex = source.strip()
    if tex.startswith("{") and tex.endswith("}") and _DISPLAY_STYLE.match(tex, 1):
        tex = tex[1:-1]
    tex = _DISPLAY_STYLE.sub("", tex).strip()
    return f"${tex}$" if tex else ""


def _formula(math: LexborNode) -> str:
    """A formula as TeX, if the page has it, otherwise in one line."""
    for annotation in math.css("annotation"):
        if _TEX.search(annotation.attributes.get("encoding") or ""):
            return _tex(annotation.text())
    if alternative := (math.attributes.get("alttext") or "").strip():
        return _tex(alternative)
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


def grouped(text: str) -> str:
    """The text, in brackets if a reader could not tell where it ends."""
    return text if re.fullmatch(r"[-+−–]?\w+|\W", text) else f"({text})"


def _group(text: str) -> str:
    return grouped(text.strip())


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
