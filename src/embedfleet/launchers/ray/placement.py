"""Says why no node of a cluster can take a worker. It is pure: nodes come as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embedfleet.launchers.ray.messages import Node

_MOST_NODES_SHOWN = 5


def fits(node: Node, amounts: Mapping[str, float], labels: Mapping[str, str]) -> bool:
    """Whether the node could take the worker if nothing else ran on it."""
    roomy = all(node.amounts.get(name, 0.0) >= amount for name, amount in amounts.items())
    return roomy and all(_matches(node.labels.get(key), wanted) for key, wanted in labels.items())


def why_waiting(
    pool: str, amounts: Mapping[str, float], labels: Mapping[str, str], nodes: Sequence[Node]
) -> str:
    """Return why a worker of the pool is not placed yet, in one line: what it asks for and what nodes have.

    Names first what no node has at all. Otherwise there are nodes that would fit, but have not taken it yet.
    """
    asked = _asked(amounts, labels)
    fitting = sum(fits(node, amounts, labels) for node in nodes)
    if fitting:
        return (
            f"pool `{pool}`: a worker waits for {asked}: no node has taken it yet, and {fitting} of "
            f"{len(nodes)} would fit if nothing else were on them"
        )
    missing = [
        name for name, amount in amounts.items() if all(n.amounts.get(name, 0.0) < amount for n in nodes)
    ]
    missing += [
        f"label {key}={wanted}"
        for key, wanted in labels.items()
        if not any(_matches(node.labels.get(key), wanted) for node in nodes)
    ]
    lacking = f"no node has so much {', '.join(missing)}" if missing else "no node has all of it"
    shown = _shown(nodes, amounts, labels)
    return (
        f"pool `{pool}`: a worker asks for {asked}, but {lacking} (nodes have: {shown}): "
        f"change `worker_pools.{pool}.resources`, or add such a node"
    )


def _matches(value: str | None, wanted: str) -> bool:
    """Whether a label has the wanted value, which may be `x`, `!x`, `in(x,y)` or `!in(x,y)` as in Ray."""
    if wanted.startswith("!"):
        # As in Ray, a node without the label is none of those that are excluded.
        return not _matches(value, wanted[1:])
    if wanted.startswith("in(") and wanted.endswith(")"):
        return value in [one.strip() for one in wanted[3:-1].split(",")]
    return value == wanted


def _asked(amounts: Mapping[str, float], labels: Mapping[str, str]) -> str:
    parts = [_amount(name, amount) for name, amount in amounts.items()]
    return ", ".join([*parts, *(f"{key}={wanted}" for key, wanted in labels.items())]) or "nothing"


def _amount(name: str, amount: float) -> str:
    return f"memory {amount / 2**20:.0f} MB" if name == "memory" else f"{name} {amount:g}"


def _shown(nodes: Sequence[Node], amounts: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """What the nodes have of what is asked for."""
    if not nodes:
        return "there is no node"
    lines = [
        f"{node.name} "
        + _asked(
            {name: node.amounts.get(name, 0.0) for name in amounts},
            {key: node.labels.get(key, "unset") for key in labels},
        )
        for node in nodes[:_MOST_NODES_SHOWN]
    ]
    more = len(nodes) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more else "")
