"""How many texts a server takes in one request: learnt from its refusals."""

from __future__ import annotations


class BatchLimit:
    """Halved, for good, by every refusal of a batch within it."""

    def __init__(self, most: int) -> None:
        self._texts = most

    @property
    def texts(self) -> int:
        return self._texts

    def refused(self, texts: int) -> bool:
        """So many, more than one, were too many. False if that was known."""
        halved = texts // 2
        if halved >= self._texts:
            return False
        self._texts = halved
        return True

    def restore(self, texts: int) -> None:
        """It was not their number: a single one of them was refused as well."""
        self._texts = max(self._texts, texts)
