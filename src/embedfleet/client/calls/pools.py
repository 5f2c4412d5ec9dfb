"""Worker pools, for operators. The contracts are those of `tracking.worker_pools`."""

from __future__ import annotations

from embedfleet.client.calls.reading import entries, record, segment
from embedfleet.client.steps import Ask, Steps
from embedfleet.tracking.worker_pools import OrchestratorInfo, OrchestratorsSeen


def orchestrators() -> Steps[OrchestratorsSeen]:
    """Return the orchestrators that run with their pools, and those that were lost within the last hour."""
    return record(OrchestratorsSeen, (yield Ask("GET", "/v1/pools")))


def scale(pool: str, workers: int, *, host: str | None = None) -> Steps[list[OrchestratorInfo]]:
    """Order orchestrators to run this many workers of a pool; 0 drains it. Returns those that were told.

    With `host`, only those of this host, or the one with this id. Raises InvalidRequest.
    """
    body = {"workers": workers, "host": host}
    ask = Ask("POST", f"/v1/pools/{segment(pool)}/scale", json=body, repeats=True)
    return entries(OrchestratorInfo, (yield ask), "orchestrators")
