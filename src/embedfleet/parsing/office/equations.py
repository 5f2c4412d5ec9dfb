"""Equations of Office documents as LaTeX, so that a formula reads in its sentence: `$E=mc^{2}$`."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree.ElementTree import Element

from embedfleet.parsing.office.xml_part import descend, is_on

_OPERATORS = {"∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∮": r"\oint", "⋃": r"\bigcup", "⋂": r"\bigcap"}
_ACCENTS = {
    "\u0302": r"\hat",
    "\u0303": r"\tilde",
    "\u0304": r"\bar",
    "\u0305": r"\bar",
    "\u0307": r"\dot",
    "\u0308": r"\ddot",
    "\u20d7": r"\vec",
}
_FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "log",
        "ln",
        "exp",
        "lim",
        "max",
        "min",
        "det",
        "gcd",
        "sup",
        "inf",
        "arg",
    ]
)


def latex(equation: Element) -> str:
    """Return an equation (`m:oMath`, or an element in one) as LaTeX without dollar signs.

    Greek letters and the like stay as the author typed them, so that a search finds them.
    """
    return "".join(_of(child) for child in equation)


def _of(node: Element) -> str:
    if node.tag == "m:r":
        return "".join(child.text or "" for child in node if child.tag in ("m:t", "w:t"))
    writer = _WRITERS.get(node.tag)
    if writer is not None:
        return writer(node)
    return "" if node.tag.endswith(("Pr", ":del", ":moveFrom")) else latex(node)


def _part(node: Element, name: str) -> str:
    child = node.find(f"m:{name}")
    return "" if child is None else latex(child)


def _value(node: Element, *path: str, default: str) -> str:
    found = descend(node, *path)
    return default if found is None else found.get("m:val", "")


def _fraction(node: Element) -> str:
    above, below = _part(node, "num"), _part(node, "den")
    return (
        f"{above}/{below}"
        if _value(node, "m:fPr", "m:type", default="") == "lin"
        else rf"\frac{{{above}}}{{{below}}}"
    )


def _root(node: Element) -> str:
    degree = _part(node, "deg")
    return rf"\sqrt{f'[{degree}]' if degree else ''}{{{_part(node, 'e')}}}"


def _scripts(node: Element) -> str:
    return _part(node, "e") + _limits(node)


def _limits(node: Element) -> str:
    below, above = _part(node, "sub"), _part(node, "sup")
    return (f"_{{{below}}}" if below else "") + (f"^{{{above}}}" if above else "")


def _scripts_before(node: Element) -> str:
    return "{}" + _limits(node) + _part(node, "e")


def _operator(node: Element) -> str:
    sign = _value(node, "m:naryPr", "m:chr", default="∫") or "∫"
    return f"{_OPERATORS.get(sign, sign)}{_limits(node)} {_part(node, 'e')}"


def _delimited(node: Element) -> str:
    properties = node.find("m:dPr")
    begin, between, end = "(", "|", ")"
    if properties is not None:
        begin = _value(properties, "m:begChr", default=begin)
        between = _value(properties, "m:sepChr", default=between)
        end = _value(properties, "m:endChr", default=end)
    return begin + between.join(latex(inner) for inner in node.findall("m:e")) + end


def _matrix(node: Element) -> str:
    rows = (" & ".join(latex(cell) for cell in row.findall("m:e")) for row in node.findall("m:mr"))
    lines = r" \\ ".join(rows)
    return rf"\begin{{matrix}}{lines}\end{{matrix}}"


def _array(node: Element) -> str:
    return r" \\ ".join(latex(line) for line in node.findall("m:e"))


def _accent(node: Element) -> str:
    mark = _value(node, "m:accPr", "m:chr", default="\u0302")
    return rf"{_ACCENTS.get(mark, chr(92) + 'hat')}{{{_part(node, 'e')}}}"


def _bar(node: Element) -> str:
    name = "overline" if _value(node, "m:barPr", "m:pos", default="bot") == "top" else "underline"
    return rf"\{name}{{{_part(node, 'e')}}}"


def _function(node: Element) -> str:
    name = _part(node, "fName")
    return f"{chr(92) + name if name in _FUNCTIONS else name} {_part(node, 'e')}"


def _limit_below(node: Element) -> str:
    base = _part(node, "e")
    return f"{chr(92) + base if base in _FUNCTIONS else base}_{{{_part(node, 'lim')}}}"


def _limit_above(node: Element) -> str:
    return f"{_part(node, 'e')}^{{{_part(node, 'lim')}}}"


def _invisible(node: Element) -> str:
    return _part(node, "e") if is_on(descend(node, "m:phantPr", "m:show"), default=True) else ""


_WRITERS: dict[str, Callable[[Element], str]] = {
    "m:f": _fraction,
    "m:rad": _root,
    "m:sSup": _scripts,
    "m:sSub": _scripts,
    "m:sSubSup": _scripts,
    "m:sPre": _scripts_before,
    "m:nary": _operator,
    "m:d": _delimited,
    "m:m": _matrix,
    "m:eqArr": _array,
    "m:acc": _accent,
    "m:bar": _bar,
    "m:func": _function,
    "m:limLow": _limit_below,
    "m:limUpp": _limit_above,
    "m:phant": _invisible,
}
