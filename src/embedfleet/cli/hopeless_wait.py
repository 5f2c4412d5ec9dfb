"""Tells when a command should end with the trouble of its workers, and not wait for it to pass."""

from __future__ import annotations

from embedfleet.errors import EmbedfleetError, StorageFull

LONGEST_SECONDS = 15.0
"""How long a trouble may last that the user has to end. The first words of a store may be wrong: it reports
damage, now and then, that its next try does not meet."""


class HopelessWait:
    """Looks at the trouble of the workers from time to time."""

    def __init__(self) -> None:
        self._since: float | None = None

    def error(self, trouble: EmbedfleetError | None, now: float) -> EmbedfleetError | None:
        """Return the trouble if the command should end with it; None if there is none, or if it may pass.

        A full disk ends it at once, as other programs do. A trouble that names a remedy, such as a damaged
        vector store, ends it after `LONGEST_SECONDS` without a look that found none. `now` is in seconds.
        """
        if isinstance(trouble, StorageFull):
            return trouble
        if trouble is None or trouble.remedy is None:
            self._since = None
            return None
        if self._since is None:
            self._since = now
        return trouble if now - self._since >= LONGEST_SECONDS else None
