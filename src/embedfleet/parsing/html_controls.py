"""Makes text of the controls that say something: buttons that show an answer, labels of tabs, filled fields.

This runs before anything is pruned, so that a heading is there when what it shows is looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice

from selectolax.lexbor import LexborHTMLParser, LexborNode

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.html_nodes import ancestors, outermost
from embedfleet.visible_text import letters_in

_HEADINGS = "h1, h2, h3, h4, h5, h6"
_REVEALING = (
    *("aria-expanded", "aria-controls", "data-toggle", "data-bs-toggle", "data-target", "data-bs-target"),
)
"""Attributes of buttons that show and hide text, which are its headings."""

_REVEALING_CLASS = re.compile(r"accordion|collaps|faq|question|toggle|expand|spoiler", re.IGNORECASE)
_MENU_CLASS = re.compile(r"menu|nav|search|dropdown|theme|copy|burger|sidebar", re.IGNORECASE)
_WORDS_OF_A_QUESTION = 2  # "Help?" does something, "How often?" asks something
_TITLES = frozenset(("h1", "h2", "h3", "h4", "h5", "h6", "dt"))
_DEEPEST_HEADING = 6
_MOST_CLIMBED = 3  # elements between a heading and the button in it
_TOGGLES = 'input[type="checkbox"], input[type="radio"]'
_REVEALED = frozenset(("div", "section", "article", "p", "ul", "ol", "dl", "table", "pre"))
_FIELDS = "input[value], textarea"
_FIELD_TYPES = frozenset(
    ("", "text", "number", "date", "time", "datetime-local", "email", "tel", "url", "month")
)
_SEARCHES = '[role="search"], nav, [role="navigation"], [type="search"]'


def write_controls(tree: LexborHTMLParser, body: LexborNode, draft: Draft) -> None:
    """Replace the controls of the whole page by headings and text, or remove them and note that."""
    _name_tab_panels(tree, body)
    _write_headings(tree, body, draft)
    _write_fields(tree, body)


def _write_headings(tree: LexborHTMLParser, body: LexborNode, draft: Draft) -> None:
    """Make headings of what shows text, a level below the heading before it; drop other buttons.

    A button in a heading is the heading's text.
    """
    level = 1
    selector = f'{_HEADINGS}, button, summary, [role="button"], [role="heading"], label'
    for node in _each_once(body.css(selector)):
        tag = node.tag or ""
        if _level_of(tag):
            level = _level_of(tag)
        elif any(parent.tag in _TITLES for parent in islice(ancestors(node), _MOST_CLIMBED)):
            node.unwrap()
        elif node.attributes.get("role") == "heading":
            named = node.attributes.get("aria-level") or ""
            level = min(int(named), _DEEPEST_HEADING) if named.isdecimal() and 0 < len(named) < 3 else level
            _make_heading(tree, node, max(level, 1))
        elif _is_heading(node, tag):
            _make_heading(tree, node, min(level + 1, _DEEPEST_HEADING))
        elif tag == "button":
            chars = letters_in(node.text())
            draft.note(Code.HTML_CONTROLS, count=1 if chars else 0, chars=chars, place="button")
            node.decompose()


def _each_once(nodes: list[LexborNode]) -> list[LexborNode]:
    """The elements outside of each other, as those that are replaced take others with them."""
    containers = outermost([node for node in nodes if not _level_of(node.tag or "")])
    inside = {one.mem_id for container in containers for one in container.css("*")}
    kept = {node.mem_id for node in containers}
    unique = {node.mem_id: node for node in nodes}
    return [
        node
        for key, node in unique.items()
        if key in kept or (_level_of(node.tag or "") and key not in inside)
    ]


def _level_of(tag: str) -> int:
    return int(tag[1]) if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit() else 0


def _is_heading(node: LexborNode, tag: str) -> bool:
    """Whether a control is the heading of the text that it shows."""
    text = " ".join(node.text().split())
    if not text:
        return False
    if tag == "summary":
        return True
    if tag == "label":
        return _shows_what_follows(node)
    attributes = node.attributes
    name = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    if _MENU_CLASS.search(name) or attributes.get("type") in ("submit", "reset"):
        return False
    asks = text.endswith(("?", "？", "؟")) and len(text.split()) >= _WORDS_OF_A_QUESTION
    return (
        asks
        or any(one in attributes for one in _REVEALING)
        or bool(_REVEALING_CLASS.search(name))
        or _is_before_hidden_text(node)
    )


def _is_before_hidden_text(node: LexborNode) -> bool:
    following = _next_element(node)
    if following is None:
        return False
    style = (following.attributes.get("style") or "").replace(" ", "").lower()
    return "hidden" in following.attributes or "display:none" in style


def _shows_what_follows(label: LexborNode) -> bool:
    """Whether a label belongs to a box that, ticked, shows the block after it, without any script."""
    before, following = label.prev, _next_element(label)
    while before is not None and before.is_text_node and not (before.text_content or "").strip():
        before = before.prev
    if before is None or before.is_text_node or not before.css_matches(_TOGGLES):
        return False
    return following is not None and following.tag in _REVEALED and bool(following.text().strip())


def _next_element(node: LexborNode) -> LexborNode | None:
    following = node.next
    while following is not None and following.is_text_node and not (following.text_content or "").strip():
        following = following.next
    return None if following is None or following.is_text_node else following


def _make_heading(tree: LexborHTMLParser, node: LexborNode, level: int) -> None:
    _insert_before(tree, node, f"h{level}", " ".join(node.text().split()))
    node.decompose()


def _insert_before(tree: LexborHTMLParser, node: LexborNode, tag: str, text: str) -> None:
    node.insert_before(tree.create_node(tag))
    inserted = node.prev
    assert inserted is not None
    inserted.insert_child(text)


def _name_tab_panels(tree: LexborHTMLParser, body: LexborNode) -> None:
    """Put the label of each tab before what its panel says, and drop the tab. Tabs without panels stay."""
    tabs = [(_target_of(tab), tab) for tab in outermost(body.css('[role="tab"]'))]
    shared = Counter(target for target, _ in tabs)  # a panel of several tabs is a table that they filter
    labels = {target: " ".join(tab.text().split()) for target, tab in tabs if shared[target] == 1}
    named: set[str] = set()
    for panel in body.css("[id]"):
        name = panel.id or ""
        first = panel.first_child
        if labels.get(name) and name not in named and first is not None:
            named.add(name)
            _insert_before(tree, first, "p", f"{labels[name]}:")
    for target, tab in tabs:
        if target in named:
            _drop_with_item(tab)
        elif tab.tag == "button":
            tab.replace_with(f" {' '.join(tab.text().split())} ")


def _target_of(tab: LexborNode) -> str:
    return (tab.attributes.get("aria-controls") or tab.attributes.get("href") or "").lstrip("#")


def _drop_with_item(tab: LexborNode) -> None:
    item = tab.parent
    tab.decompose()
    if item is not None and item.tag == "li" and not item.text().strip():
        item.decompose()


def _write_fields(tree: LexborHTMLParser, body: LexborNode) -> None:
    """Replace fields that are filled in by what they hold: a reader of the page sees it."""
    searches = {one.mem_id for search in body.css(_SEARCHES) for one in search.css(_FIELDS)}
    for field in outermost(body.css(_FIELDS)):
        if field.mem_id in searches or not _is_filled_by_hand(field):
            continue
        if field.tag == "textarea" and field.text().strip():
            _insert_before(tree, field, "pre", field.text())
            field.decompose()
        elif field.tag == "input" and (value := (field.attributes.get("value") or "").strip()):
            field.replace_with(f" {value} ")


def _is_filled_by_hand(field: LexborNode) -> bool:
    attributes = field.attributes
    names = (attributes.get(name) or "" for name in ("id", "class", "name"))
    is_text = (attributes.get("type") or "").lower() in _FIELD_TYPES
    return is_text and not any("search" in name.lower() for name in names)
