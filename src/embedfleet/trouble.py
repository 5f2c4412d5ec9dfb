"""Records why a part of the process waits. Other parts can read the reason, and the log has it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loguru import logger

from embedfleet.errors import EmbedfleetError

if TYPE_CHECKING:
    from loguru import Logger


class Trouble:
    """The failure that keeps one part of the process from its work now, if there is one.

    A part that tries again every second would fill the log. So `note` logs the first failure of a row and
    `clear` logs that the row is over. Belongs to one event loop.
    """

    def __init__(self, *, log: Logger = logger, over: str = "it goes on") -> None:
        """`over` is the text in the log when the trouble is over."""
        self._log = log
        self._over = over
        self.failure: EmbedfleetError | None = None

    def note(self, failure: EmbedfleetError) -> None:
        """Record that the work waits because of this failure."""
        if self.failure is None:
            self._log.warning("waiting: {}", failure)
        self.failure = failure

    def clear(self) -> None:
        """Record that the work goes on. Do nothing if no failure was noted."""
        if self.failure is not None:
            self._log.info("{}", self._over)
            self.failure = None
