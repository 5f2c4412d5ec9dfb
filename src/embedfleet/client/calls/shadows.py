"""Shadow runs, for operators.

The contracts are those of `traffic.shadow_administration.ShadowAdministration`.
"""

from __future__ import annotations

from embedfleet.client.calls.listing import listed
from embedfleet.client.calls.reading import document, record, segment
from embedfleet.client.steps import Ask, Steps
from embedfleet.records.cursors import Page
from embedfleet.traffic.shadow_schemas import ShadowInfo, ShadowRule


def begin_shadow(*, owner: str, rule: ShadowRule, expires_seconds: float) -> Steps[ShadowInfo]:
    """Begin a run, which ends by itself. Raises InvalidRequest for a wrong value, or while another goes on.

    If the answer is lost on the way, the run may have begun: list the runs.
    """
    body = {"owner": owner, "rule": document(rule), "expires_seconds": expires_seconds}
    return record(ShadowInfo, (yield Ask("POST", "/v1/traffic/shadows", json=body)))


def end_shadow(shadow_id: str) -> Steps[ShadowInfo]:
    """End the run before its time, and return it with its verdict. Raises UnknownShadow."""
    path = f"/v1/traffic/shadows/{segment(shadow_id)}/end"
    return record(ShadowInfo, (yield Ask("POST", path, repeats=True)))


def get_shadow(shadow_id: str) -> Steps[ShadowInfo]:
    """Return the run, with examples of the differences that it found. Raises UnknownShadow."""
    return record(ShadowInfo, (yield Ask("GET", f"/v1/traffic/shadows/{segment(shadow_id)}")))


def list_shadows(*, limit: int = 100, after: str | None = None) -> Steps[Page[ShadowInfo]]:
    """Return up to `limit` runs, newest first, without examples.

    For the next page, pass `next_cursor` of this page as `after`. Raises InvalidRequest for another text.
    """
    return (yield from listed(ShadowInfo, "/v1/traffic/shadows", "shadows", limit=limit, after=after))
