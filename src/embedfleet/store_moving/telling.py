"""What the metrics say of a move."""

from __future__ import annotations

from embedfleet.metrics import Metrics
from embedfleet.records.store_moves import StoreMove
from embedfleet.sql.states import MovePhase


class MoveTelling:
    """Sets the series of the move that is under way. Without `metrics` it says nothing."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics

    def tell(self, move: StoreMove | None) -> None:
        """Say which phase the move is in, and since when; without a move, say nothing."""
        if self._metrics is None:
            return
        self._metrics.store_move_phase_since_seconds.clear()
        if move is None or move.phase is MovePhase.ENDED:
            self._metrics.store_move_remaining_rows.set(0)
        else:
            self._metrics.store_move_phase_since_seconds.labels(move.phase.value).set(move.changed_at)

    def remain(self, rows: int) -> None:
        """Say how many rows are still to be copied."""
        if self._metrics is not None:
            self._metrics.store_move_remaining_rows.set(rows)

    def copied(self, rows: int) -> None:
        """Count rows that were copied of those that remain."""
        self.count(rows)
        if self._metrics is not None:
            self._metrics.store_move_remaining_rows.dec(rows)

    def count(self, rows: int) -> None:
        """Count rows that were copied, read back or deleted."""
        if self._metrics is not None:
            self._metrics.store_move_rows_total.inc(rows)

    def forget(self) -> None:
        """Say nothing more: another process has taken the move over."""
        self.tell(None)
