"""Why a part of the process waits: known to others at any moment, and logged once."""

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
        """`over`: what the log says when the trouble is over."""
        self._log = log
        self._over = over
        self.failure: EmbedfleetError | None = None

    def note(self, failure: EmbedfleetError) -> None:
        """The work waits because of this failure."""
        if self.failure is None:
            self._log.warning("waiting: {}", failure)
        self.failure = failure

    def clear(self) -> None:
        """The work goes on. Without effect if nothing was noted."""
        if self.failure is not None:
            self._log.info("{}", self._over)
            self.failure = None
