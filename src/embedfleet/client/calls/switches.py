"""Switches of tenants to other models, for operators.

The contracts are those of `model_switching.administration.SwitchAdministration`.
"""

from __future__ import annotations

from typing import Any

from embedfleet.client.calls.listing import listed
from embedfleet.client.calls.reading import record
from embedfleet.client.steps import Ask, Steps
from embedfleet.model_switching.schemas import SwitchesBegun, SwitchesOrdered, SwitchEstimate, SwitchInfo
from embedfleet.model_switching.selection import Selection
from embedfleet.records.cursors import Page

_PATH = "/v1/model_switches"


def estimate_switches(
    selection: Selection, *, to_model: str, from_model: str | None = None
) -> Steps[SwitchEstimate]:
    """Say what the switches would take. Raises UnknownModel, InvalidRequest."""
    said = {**_wholly(selection), "to_model": to_model, "from_model": from_model}
    return record(SwitchEstimate, (yield Ask("GET", f"{_PATH}:estimate", params=said)))


def begin_switches(
    selection: Selection,
    *,
    to_model: str,
    from_model: str | None = None,
    percent: float = 100.0,
    most_jobs: int | None = None,
    force: bool = False,
) -> Steps[SwitchesBegun]:
    """Begin to switch a tenant, or all tenants. Raises UnknownModel, InvalidRequest."""
    said: dict[str, Any] = {"to_model": to_model, "from_model": from_model, "percent": percent}
    said |= {"most_jobs": most_jobs, "force": force, **_wholly(selection)}
    # The same order given again changes nothing.
    return record(SwitchesBegun, (yield Ask("POST", _PATH, json=said, repeats=True)))


def get_switch(switch_id: int) -> Steps[SwitchInfo]:
    """Return a switch, with the questions that the new space answers worst. Raises UnknownSwitch."""
    return record(SwitchInfo, (yield Ask("GET", f"{_PATH}/{switch_id}")))


def list_switches(
    *,
    tenant: str | None = None,
    campaign: str | None = None,
    ended: bool = False,
    limit: int = 100,
    after: str | None = None,
) -> Steps[Page[SwitchInfo]]:
    """Return up to `limit` switches, newest first, without their worst questions.

    Those that have ended are left out unless `ended`. For the next page, pass `next_cursor` of this page as
    `after`. Raises InvalidRequest for another text.
    """
    which = {"tenant_id": tenant, "campaign": campaign, "ended": ended}
    return (yield from listed(SwitchInfo, _PATH, "switches", limit=limit, after=after, params=which))


def pause_switches(selection: Selection) -> Steps[SwitchesOrdered]:
    """Embed no more documents of before for now. Raises InvalidRequest, NotReady."""
    return (yield from _order("pause", selection))


def resume_switches(selection: Selection) -> Steps[SwitchesOrdered]:
    """Go on after a pause. Raises InvalidRequest, NotReady."""
    return (yield from _order("resume", selection))


def throttle_switches(selection: Selection, *, most_jobs: int | None) -> Steps[SwitchesOrdered]:
    """Embed at most this many documents of a tenant at a time; None: as the settings say."""
    return (yield from _order("throttle", selection, most_jobs=most_jobs))


def serve_switches(selection: Selection, *, percent: float) -> Steps[SwitchesOrdered]:
    """Have the new space answer this share of the queries. Raises InvalidRequest, NotReady."""
    return (yield from _order("serve", selection, percent=percent))


def roll_back_switches(selection: Selection) -> Steps[SwitchesOrdered]:
    """Have the old space answer all queries again, at once. Raises InvalidRequest, NotReady."""
    return (yield from _order("rollback", selection))


def force_switches(selection: Selection) -> Steps[SwitchesOrdered]:
    """Pass a gate that has refused the switch, or will. Raises InvalidRequest, NotReady."""
    return (yield from _order("force", selection))


def recheck_switches(selection: Selection) -> Steps[SwitchesOrdered]:
    """Have a refused switch checked again. Raises InvalidRequest, NotReady."""
    return (yield from _order("recheck", selection))


def retire_switches(selection: Selection, *, force: bool = False) -> Steps[SwitchesOrdered]:
    """Empty the space that answers no query, and end the switch. Raises InvalidRequest, NotReady."""
    return (yield from _order("retire", selection, force=force))


def _order(verb: str, selection: Selection, **said: Any) -> Steps[SwitchesOrdered]:
    # Not repeated: a second one may be refused, as the first one has changed the switch.
    ask = Ask("POST", f"{_PATH}:{verb}", json={**_selected(selection), **said})
    return record(SwitchesOrdered, (yield ask))


def _wholly(selection: Selection) -> dict[str, Any]:
    """Return the tenants to begin with. Raises InvalidRequest for a campaign, as beside the database."""
    selection.require_no_campaign()
    return {"tenant_id": selection.tenant, "all_tenants": selection.all_tenants}


def _selected(selection: Selection) -> dict[str, Any]:
    return {
        "tenant_id": selection.tenant,
        "campaign": selection.campaign,
        "all_tenants": selection.all_tenants,
    }
