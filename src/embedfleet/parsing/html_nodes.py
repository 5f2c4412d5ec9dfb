"""Finds and counts elements of a page."""

from __future__ import annotations

from collections.abc import Container, Iterator

from selectolax.lexbor import LexborNode

from embedfleet.visible_text import letters_in


def outermost(nodes: list[LexborNode]) -> list[LexborNode]:
    """Those of the elements that are in no other of them, each once.

    What is known of an ancestor is kept, so that a page that is nested deep takes no quadratic time.
    """
    every = {node.mem_id: node for node in nodes}
    inside: dict[int, bool] = {}
    return [node for node in every.values() if not _is_inside(node, every, inside)]


def _is_inside(node: LexborNode, every: Container[int], inside: dict[int, bool]) -> bool:
    """Whether an ancestor of the node is one of `every`. `inside` has the answers about other nodes."""
    climbed = [node.mem_id]
    answer = False
    for ancestor in ancestors(node):
        if ancestor.mem_id in every:
            answer = True
            break
        if ancestor.mem_id in inside:
            answer = inside[ancestor.mem_id]
            break
        climbed.append(ancestor.mem_id)
    inside.update(dict.fromkeys(climbed, answer))
    return answer


def ancestors(node: LexborNode) -> Iterator[LexborNode]:
    while (parent := node.parent) is not None:
        yield parent
        node = parent


def link_letters(node: LexborNode) -> int:
    return sum(letters_in(link.text()) for link in node.css("a"))
