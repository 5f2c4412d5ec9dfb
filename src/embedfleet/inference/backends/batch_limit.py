"""How many texts a server takes in one request: learnt from its refusals."""

from __future__ import annotations


class BatchLimit:
    """Halved by each refusal of a batch within it; it stays halved."""

    def __init__(self, most_texts: int) -> None:
        self._texts = most_texts

    @property
    def texts(self) -> int:
        """Texts that one request may have."""
        return self._texts

    def refused(self, texts: int) -> bool:
        """The server refused `texts` texts, two or more, as too many. Returns whether that lowered the limit:
        it does not if the limit was lowered already, by a refusal of another request."""
        halved = texts // 2
        if halved >= self._texts:
            return False
        self._texts = halved
        return True

    def restore(self, texts: int) -> None:
        """Allow `texts` texts again: their number was not the reason, as the server refused a single one of
        them, too."""
        self._texts = max(self._texts, texts)
