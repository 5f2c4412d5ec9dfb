"""Labels that come from users, kept few: a time series each would drown Prometheus."""

from __future__ import annotations

OTHER = "_other"


class BoundedLabels:
    """The first `limit` names seen keep theirs, all later ones share `OTHER`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """The label to count this name under; the same for as long as the process lives."""
        if name not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(name)
        return name
