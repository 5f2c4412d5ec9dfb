"""Limits the number of label values that come from users: each is a time series that Prometheus must keep."""

from __future__ import annotations

OTHER = "_other"


class BoundedLabels:
    """The first `limit` names are labels of their own; all later names share the label `OTHER`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """The label under which to count this name. It stays the same as long as the process lives."""
        if name not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(name)
        return name
