"""What an operator orders of a switch to another model: to begin, pause and serve it, to go back, to end it.

An order is a row in SQL; the leader carries it out (`model_switching.switcher`). So an order can be given
beside running orchestrators, by any process that reaches the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import Connection

from embedfleet.errors import InvalidRequest, NotReady
from embedfleet.inference.backend import ModelInfo
from embedfleet.records import collections, documents, experiments, model_switches, tenants, twins
from embedfleet.records.arms import ROUTE
from embedfleet.records.collections import Collection
from embedfleet.records.model_switches import ModelSwitch, NewSwitch
from embedfleet.settings.routing import RoutingRule
from embedfleet.sql.states import SwitchPhase

MOST_JOBS = 10_000
"""The most documents of a tenant that may be embedded at a time. More would only wait in the queue."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The switch that is wanted of each tenant.

    `from_model` names the model that is left; `ROUTE`: all others that the tenant has; None: the only one
    that the tenant has documents of. `percent` is the share of queries that the new space gets once it has
    passed the gate. `most_jobs`: as in `ModelSwitchingSettings`; None: as the settings say. `rules_apply`:
    rules of the settings send documents to models.
    """

    to: ModelInfo
    from_model: str | None = None
    percent: float = 100.0
    most_jobs: int | None = None
    rules_apply: bool = False

    @property
    def leaves_route(self) -> bool:
        return self.from_model == ROUTE


@dataclass(frozen=True, slots=True)
class Begun:
    """What `begin` did. `switches`: those that are under way now, and `again` those of them that were before.

    `without_documents`: tenants that have none, so only their model was set. `there_already`: tenants whose
    documents are all of the new model. `left_out`: why a tenant is not switched, by its name.
    """

    switches: Sequence[ModelSwitch]
    without_documents: Sequence[str]
    there_already: Sequence[str]
    left_out: Mapping[str, str]
    again: Sequence[ModelSwitch]


def begin(
    conn: Connection, names: Sequence[str], wanted: Wanted, now: float, *, leaves_out: bool = False
) -> Begun:
    """Begin the switch of each of these tenants. The same order given again changes nothing.

    Raises InvalidRequest if a tenant has a switch to another model under way, or documents of several models
    and none was named. With `leaves_out`, such a tenant is left out in place of that.
    """
    tenants.lock(conn, names)  # so that no submission is admitted that the switch would not know of
    under_way = model_switches.running_of(conn, names)
    campaign = uuid4().hex
    switches: list[ModelSwitch] = []
    without: list[str] = []
    there: list[str] = []
    left_out: dict[str, str] = {}
    again: list[ModelSwitch] = []
    for name in sorted(set(names)):
        try:
            if name in under_way:
                again.append(require_same(under_way[name], wanted))
                continue
            sources = sources_of(conn, name, wanted)
        except InvalidRequest as exc:
            if not leaves_out:
                raise
            left_out[name] = str(exc)
            continue
        if any(one.space != wanted.to.space for one in sources):
            source = None if wanted.leaves_route else sources[0]
            switches.append(_begin_one(conn, name, source, wanted, campaign, len(names), now))
            continue
        (there if sources else without).append(name)
        tenants.set_model(conn, name, wanted.to.name)
        if wanted.leaves_route:
            tenants.set_rules(conn, name, _only(wanted.to.name, rules_apply=wanted.rules_apply))
    return Begun([*again, *switches], without, there, left_out, again)


def sources_of(conn: Connection, tenant: str, wanted: Wanted) -> Sequence[Collection]:
    """Return the collections that the tenant would leave; that of the new model if it has no other one.

    Of the route there may be several. None: it has no documents. Raises InvalidRequest if several models have
    documents and none was named.
    """
    live = documents.live_by_collection(conn, tenant)
    filled = [one for one in collections.of_tenant(conn, tenant) if live.get(one.collection_id)]
    others = [one for one in filled if one.space != wanted.to.space]
    if wanted.leaves_route:
        if any(one.model == ROUTE for one in filled):
            raise InvalidRequest(
                f"tenant `{tenant}`: `{ROUTE}` means all of its models, and one of them has this name: leave "
                "the others first, one by one"
            )
        return others or filled
    if wanted.from_model is not None:
        named = [one for one in others if one.model == wanted.from_model]
        if not named:
            raise InvalidRequest(
                f"tenant `{tenant}` has no documents of model `{wanted.from_model}`, but of "
                f"{_told(filled) or 'none'}: name one of these"
            )
        return named[-1:]
    if len(others) > 1:
        raise InvalidRequest(
            f"tenant `{tenant}` has documents of several models ({_told(others)}): say which one to leave, "
            f"or `{ROUTE}` for all of them"
        )
    return others or filled


def _told(some: Sequence[Collection]) -> str:
    return ", ".join(f"`{one.model}`" for one in some)


def begin_trial(conn: Connection, tenant: str, wanted: Wanted, experiment_id: str, now: float) -> ModelSwitch:
    """Fill the space of a model for an experiment. It is kept in step, and answers no query until `promote`.

    A trial of the same model, which another experiment has left, is taken over. Raises InvalidRequest if the
    tenant has another switch under way.
    """
    tenants.lock(conn, [tenant])
    info, there = wanted.to, model_switches.running_of(conn, [tenant]).get(tenant)
    if there is not None:
        locked = model_switches.lock(conn, there.switch_id)
        assert locked is not None
        same = (
            locked.to_collection.space == info.space
            and locked.old.name == wanted.from_model
            and locked.writes_both
        )
        if not locked.is_trial or not same:
            raise _under_way(locked)
        return _changed(conn, locked, trial_of=experiment_id)
    sources = sources_of(conn, tenant, wanted)
    if all(one.space == info.space for one in sources):
        raise InvalidRequest(
            f"tenant `{tenant}` has no documents beside those of `{info.name}`: there is nothing to compare "
            "it with"
        )
    source = None if wanted.leaves_route else sources[0]
    return _begin_one(conn, tenant, source, wanted, uuid4().hex, 1, now, trial_of=experiment_id)


def promote(conn: Connection, tenant: str) -> ModelSwitch:
    """Make the trial a switch: it goes on through the gate, with all that is in the new space already.

    Raises NotReady if its space is being emptied.
    """
    switch = _open(conn, tenant, trials=True)
    if not switch.is_trial:
        raise InvalidRequest(f"tenant `{tenant}`: the switch under way is no trial: serve queries from it")
    return _changed(conn, switch, trial_of=None, wanted_percent=100.0)


def retire_trial(conn: Connection, tenant: str, now: float) -> ModelSwitch:
    """Empty the space of a trial, and end it. Raises as `retire` does."""
    return _retire(conn, _locked(conn, tenant, trials=True), now, force=False)


def _emptied(there: ModelSwitch) -> str:
    return f"tenant `{there.tenant}`: the space of `{there.other.name}` is being emptied: wait until it is"


def _under_way(there: ModelSwitch) -> InvalidRequest:
    model = there.to_collection.model
    if there.phase is SwitchPhase.RETIRING:
        return InvalidRequest(_emptied(there))
    if there.is_trial:
        return InvalidRequest(
            f"tenant `{there.tenant}`: the space of `{model}` belongs to experiment `{there.trial_of}`: "
            "promote that experiment, or end it and retire the space"
        )
    return InvalidRequest(
        f"tenant `{there.tenant}` is switched to `{model}` already: retire that switch first, or roll it "
        "back and retire it"
    )


def require_same(there: ModelSwitch, wanted: Wanted) -> ModelSwitch:
    """Return the switch that is under way if it is the wanted one.

    Raises InvalidRequest for another one, and for one that was given up: its new space is being emptied.
    """
    given_up = there.phase is SwitchPhase.RETIRING and there.other == there.new
    is_wanted = there.to_collection.space == wanted.to.space and wanted.from_model in (None, there.old.name)
    if there.is_trial or given_up or not is_wanted:
        raise _under_way(there)
    return there


def _only(model: str, *, rules_apply: bool) -> Sequence[RoutingRule]:
    """Return the rules of a tenant whose documents are all to be of this model, which is its own.

    They are none, unless rules of the settings would go on to send some to other models.
    """
    return [RoutingRule(model=model)] if rules_apply else []


def _begin_one(
    conn: Connection,
    tenant: str,
    source: Collection | None,
    wanted: Wanted,
    campaign: str,
    tenants_in_all: int,
    now: float,
    *,
    trial_of: str | None = None,
) -> ModelSwitch:
    info = wanted.to
    target = collections.Wanted(tenant, info.name, info.space, info.dim)
    to_collection = collections.ensure(conn, [target])[target.key]
    if source is None and twins.any_moving_into(conn, to_collection):
        # When its job has ended, it would stand beside its version of the route, and not replace it.
        raise InvalidRequest(
            f"tenant `{tenant}`: a document is moving to model `{info.name}`: wait until its job has ended"
        )
    new = NewSwitch(
        campaign=campaign,
        tenant=tenant,
        from_collection=source,
        to_collection=to_collection,
        wanted_percent=wanted.percent,
        sticky_by="query" if tenants_in_all == 1 else "tenant",
        most_jobs=wanted.most_jobs,
        trial_of=trial_of,
        findings={"rules_apply": wanted.rules_apply} if source is None else {},
    )
    begun = model_switches.begin(conn, new, now)
    assert begun is not None, "the tenant is locked, and had no switch under way"
    return begun


def pause(conn: Connection, tenant: str) -> ModelSwitch:
    """Embed no more documents of before for now. What is submitted is still embedded with both models."""
    return _changed(conn, _open(conn, tenant, trials=True), paused=True)


def resume(conn: Connection, tenant: str) -> ModelSwitch:
    """Go on after `pause`."""
    return _changed(conn, _open(conn, tenant, trials=True), paused=False)


def throttle(conn: Connection, tenant: str, most_jobs: int | None) -> ModelSwitch:
    """Embed at most this many documents of before at a time; None: as the settings say."""
    return _changed(conn, _open(conn, tenant, trials=True), most_jobs=most_jobs)


def serve(conn: Connection, tenant: str, percent: float, now: float) -> ModelSwitch:
    """Have the new space answer this share of the queries, once it has passed the gate.

    After the gate it holds at once, for every process: it is one row.
    """
    switch = _open(conn, tenant)
    if switch.phase is SwitchPhase.SERVING:
        return _served(conn, switch, percent, now)
    return _changed(conn, switch, wanted_percent=percent)


def rollback(conn: Connection, tenant: str, now: float) -> ModelSwitch:
    """Have the old space answer all queries again, at once. It was kept in step.

    Before the switch, the new space gets no queries after the gate. Raises NotReady if the old space is
    being emptied.
    """
    return serve(conn, tenant, 0.0, now)


def force(conn: Connection, tenant: str, now: float, *, actor: str) -> ModelSwitch:
    """Pass a gate that has refused the switch, or will. It is recorded who did that."""
    switch = _open(conn, tenant)
    if switch.phase not in (SwitchPhase.FILLING, SwitchPhase.CHECKING, SwitchPhase.REFUSED):
        raise InvalidRequest(f"tenant `{tenant}`: the switch is {switch.phase}: it has passed its gate")
    switch = _changed(conn, switch, forced=True, findings={"forced_by": actor, "forced_at": now})
    return recheck(conn, tenant, now) if switch.phase is SwitchPhase.REFUSED else switch


def recheck(conn: Connection, tenant: str, now: float) -> ModelSwitch:
    """Have a refused switch checked again."""
    switch = _open(conn, tenant)
    if switch.phase is not SwitchPhase.REFUSED:
        raise InvalidRequest(
            f"tenant `{tenant}`: the switch is {switch.phase}: only a refused one is checked again"
        )
    model_switches.enter(conn, switch, SwitchPhase.FILLING, now)
    return _again(conn, switch)


def retire(conn: Connection, tenant: str, now: float, *, force: bool = False) -> ModelSwitch:
    """Empty the space that answers no query, and end the switch. There is no way back from here.

    After the switch that is the old space. Before it, or after a rollback, it is the new one: then the switch
    is given up. Raises NotReady while both spaces answer queries, and, unless `force`, if the space that is
    to be emptied has documents that the other one lacks, or a newer version of some. With `force` they are
    embedded with the other model, and those for which that fails stay.

    The space of a trial is left to its experiment while that runs. It may be emptied when that has ended.
    """
    seen = model_switches.running_of(conn, [tenant]).get(tenant)
    # In this order, as where an experiment ends and its space is freed.
    owner = None if seen is None or seen.trial_of is None else experiments.lock(conn, seen.trial_of)
    switch = _locked(conn, tenant, trials=True)
    if owner is not None and owner.experiment_id == switch.trial_of:
        if owner.running:
            raise _under_way(switch)
        experiments.keep_no_longer(conn, owner)
    return _retire(conn, switch, now, force=force)


def _retire(conn: Connection, switch: ModelSwitch, now: float, *, force: bool) -> ModelSwitch:
    tenant = switch.tenant
    if switch.phase is SwitchPhase.RETIRING:
        return switch
    if 0 < switch.percent < 100:
        raise NotReady(
            f"tenant `{tenant}`: both spaces answer queries ({switch.percent:g} % the new one): serve all "
            "queries from one of them first"
        )
    stranded = model_switches.stranded(conn, switch)
    if stranded and not force:
        raise NotReady(
            f"tenant `{tenant}`: {stranded:,} documents are only, or are newer, in the space of "
            f"`{switch.other.name}`, which is to be emptied: look why, or force it: those that cannot be "
            f"embedded with `{switch.main.name}` then stay there"
        )
    tenants.lock(conn, [tenant])
    if switch.percent >= 100:
        model = switch.to_collection.model
        tenants.set_model(conn, tenant, model)
        if switch.leaves_route:
            applies = bool(switch.findings.get("rules_apply"))
            tenants.set_rules(conn, tenant, _only(model, rules_apply=applies))
    model_switches.enter(conn, switch, SwitchPhase.RETIRING, now, stranded=stranded)
    # A pause is for the backfill. The leader would leave a paused switch alone, and never empty the space.
    return _changed(conn, _again(conn, switch), paused=False)


def _served(conn: Connection, switch: ModelSwitch, percent: float, now: float) -> ModelSwitch:
    switched_at = None if percent < 100 else switch.switched_at or now
    return _changed(conn, switch, percent=percent, wanted_percent=percent, switched_at=switched_at)


def _locked(conn: Connection, tenant: str, *, trials: bool = False) -> ModelSwitch:
    """Return the tenant's switch, locked. A trial is taken with `trials` only: its experiment decides."""
    switch = model_switches.running_of(conn, [tenant]).get(tenant)
    locked = None if switch is None else model_switches.lock(conn, switch.switch_id)
    if locked is None or not locked.running:
        raise InvalidRequest(f"tenant `{tenant}` has no switch to another model under way: begin one")
    if locked.is_trial and not trials:
        raise _under_way(locked)
    return locked


def _open(conn: Connection, tenant: str, *, trials: bool = False) -> ModelSwitch:
    """Return what `_locked` does. Raises NotReady while a space is emptied: that takes no order."""
    switch = _locked(conn, tenant, trials=trials)
    if switch.phase is SwitchPhase.RETIRING:
        raise NotReady(_emptied(switch))
    return switch


def _changed(conn: Connection, switch: ModelSwitch, **values: object) -> ModelSwitch:
    model_switches.change(conn, switch, **values)
    return _again(conn, switch)


def _again(conn: Connection, switch: ModelSwitch) -> ModelSwitch:
    found = model_switches.get(conn, switch.switch_id)
    assert found is not None, "this unit has locked it"
    return found
