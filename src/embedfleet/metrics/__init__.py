"""Metrics for Prometheus: the series of a process, merged with those of its workers, on one port of each
host.

May import: errors, account, document_metadata, places, paging, whole_file, os_lock, printable, wording,
quiet and below.
"""

from __future__ import annotations

from embedfleet.metrics.series import Metrics

__all__ = ["Metrics"]
