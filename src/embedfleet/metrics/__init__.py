"""What Prometheus reads: the series of a process, those of its worker processes added, one endpoint a host.

May import: errors.
"""

from __future__ import annotations

from embedfleet.metrics.series import Metrics

__all__ = ["Metrics"]
