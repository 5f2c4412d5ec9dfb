"""The switches of tenants to another model: how far each is, and which documents it still lacks.

While a switch is under way, a document may be live in two spaces: in each of them one of its generations is.
A query looks in one space only. A switch from the route leaves all other spaces that the tenant has: a query
then looks in the new space, or in all others and at what only the new one has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    text,
    update,
)

from embedfleet.queue_schemas import JobStatus
from embedfleet.records import collections as collection_records
from embedfleet.records import switch_gaps
from embedfleet.records.arms import Arm
from embedfleet.records.collections import Collection
from embedfleet.records.cursors import Listing, Page
from embedfleet.records.scope import Scope
from embedfleet.records.switch_gaps import Gaps, Way
from embedfleet.sql.model_tables import model_switches
from embedfleet.sql.paging import key_pages
from embedfleet.sql.states import GenerationState, SwitchPhase
from embedfleet.sql.tables import collections, dead_letters, documents, generations, jobs
from embedfleet.sql.upsert import upsert

_LISTING = Listing("switches", (int,))

DUAL_WRITE = (SwitchPhase.FILLING, SwitchPhase.CHECKING, SwitchPhase.REFUSED, SwitchPhase.SERVING)
"""The phases in which what is submitted is embedded with both models."""

HOLDING = (SwitchPhase.CHECKING, SwitchPhase.SERVING, SwitchPhase.RETIRING)
"""The phases in which a submitted job completes together with its twin, so that both spaces have it."""

BACKFILL_FLOW = "(model switches)"
"""The line in which the documents of before queue, of all switches together.

A tenant of this name would only share the line.
"""

BUCKETS = 10_000
"""A query falls into one of these buckets, a hundredth of a percent each."""

# It keeps these buckets apart from any other hash of the same names. It must never change: another prefix
# would move tenants between the spaces.
_PREFIX = b"embedfleet model switch 1\0"


@dataclass(frozen=True, slots=True)
class ModelSwitch:
    """A switch of one tenant from the space of one collection to that of another.

    From the route, `from_collection` is None, and `route` has the tenant's other collections, oldest first.
    A document that is in none of them belongs to the new space alone: it has no twin.
    """

    switch_id: int
    campaign: str
    tenant: str
    from_collection: Collection | None
    to_collection: Collection
    phase: SwitchPhase
    percent: float
    wanted_percent: float
    sticky_by: str
    paused: bool
    forced: bool
    most_jobs: int | None
    started_at: float
    changed_at: float
    switched_at: float | None
    ended_at: float | None
    divergences: int = 0
    findings: Mapping[str, Any] = field(default_factory=dict)
    trial_of: str | None = None
    route: tuple[Collection, ...] = ()

    @property
    def running(self) -> bool:
        return self.phase is not SwitchPhase.ENDED

    @property
    def writes_both(self) -> bool:
        """Whether what is submitted is embedded with both models."""
        return self.phase in DUAL_WRITE

    @property
    def is_trial(self) -> bool:
        """Whether the new space is filled for an experiment only: it answers no query."""
        return self.trial_of is not None

    @property
    def leaves_route(self) -> bool:
        """Whether it leads from the route, and not from one space."""
        return self.from_collection is None

    @property
    def old(self) -> Arm:
        """What answers before the switch, and after a rollback."""
        return Arm(self.from_collection, self.to_collection if self.leaves_route else None)

    @property
    def new(self) -> Arm:
        """What answers after the switch."""
        return Arm(self.to_collection)

    @property
    def main(self) -> Arm:
        """What answers most queries. Its generations describe the tenant's documents."""
        return self.new if self.percent >= 100 else self.old

    @property
    def other(self) -> Arm:
        """What is beside the main one, and is emptied in the end."""
        return self.old if self.percent >= 100 else self.new

    @property
    def sources(self) -> tuple[Collection, ...]:
        """The collections that are left: one, or those of the route."""
        return self.route if self.from_collection is None else (self.from_collection,)

    @property
    def paired(self) -> tuple[Collection, ...]:
        """The collections in which each submitted version has a twin. One of the route alone has none."""
        return self.sources if self.leaves_route else (*self.sources, self.to_collection)

    @property
    def emptied(self) -> tuple[Collection, ...]:
        """The collections of the other side."""
        return self.sources if self.percent >= 100 else (self.to_collection,)

    @property
    def out(self) -> Sequence[Way]:
        """The ways from the main side to the other one."""
        return self._back if self.percent >= 100 else self._there

    @property
    def home(self) -> Sequence[Way]:
        """The ways from the other side to the main one."""
        return self._there if self.percent >= 100 else self._back

    @property
    def _there(self) -> Sequence[Way]:
        return tuple(Way(self.switch_id, one, self.to_collection) for one in self.sources)

    @property
    def _back(self) -> Sequence[Way]:
        # A document that was never in a space of the route is not brought there.
        known = self.leaves_route
        return tuple(Way(self.switch_id, self.to_collection, one, only_known=known) for one in self.sources)

    @property
    def ways(self) -> Sequence[Way]:
        """The ways in which documents are copied from the one side to the other in this phase.

        Once the new space may answer queries, it may have a version that the old one lacks, too. While a
        side is emptied, what only that one has is copied to the other.
        """
        if self.phase is SwitchPhase.SERVING:
            return (*self._there, *self._back)
        if self.phase is SwitchPhase.RETIRING:
            return self.home
        return self._there if self.writes_both else ()

    def beside(self, collection: Collection) -> Sequence[Collection]:
        """Return the collections whose generations one in this collection does not replace.

        They are those of the other side. There are none if this one is on neither side.
        """
        if collection == self.to_collection:
            return self.sources
        return (self.to_collection,) if collection in self.sources else ()

    def places(self, chosen: Collection, there: Sequence[Collection]) -> tuple[Collection, Collection | None]:
        """Return where a version is made for which `chosen` was chosen, and where its twin is.

        `there` are the collections that the document is in, or is being made in, the newest version first.
        None: it has no twin, since it is of neither side, or of the new space alone. While the route answers,
        a document of it stays where it is though the new space was chosen. So no document of the route gets
        lost among the copies.
        """
        if not self.beside(chosen):
            return chosen, None
        source = self.from_collection
        if source is None:
            known = [one for one in (chosen, *there) if one in self.sources]
            if not known:
                return self.to_collection, None
            source = known[0]
        return (self.to_collection, source) if self.percent >= 100 else (source, self.to_collection)

    def serving(self, query: str) -> Arm:
        """Return what answers this query of the tenant. The same query gets the same one."""
        if self.percent <= 0 or self.percent >= 100:
            return self.main
        # Rounded, as 0.07 x 100 is a little more than 7 as a float.
        limit = round(self.percent * (BUCKETS / 100))
        key = query if self.sticky_by == "query" else ""
        return self.new if _bucket(self.campaign, self.tenant, key) < limit else self.old


def _bucket(campaign: str, tenant: str, query: str) -> int:
    names = (name.encode("utf-8", "surrogatepass") for name in (campaign, tenant, query))
    key = _PREFIX + b"".join(b"%d\0%s" % (len(name), name) for name in names)
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % BUCKETS


@dataclass(frozen=True, slots=True)
class NewSwitch:
    """A switch to begin. `from_collection` is None: it leads from the route."""

    campaign: str
    tenant: str
    from_collection: Collection | None
    to_collection: Collection
    wanted_percent: float
    sticky_by: str
    most_jobs: int | None = None
    trial_of: str | None = None
    findings: Mapping[str, Any] = field(default_factory=dict)


# --- looking ---


def running(conn: Connection) -> list[ModelSwitch]:
    """Return the switches that are under way, oldest first."""
    return _switches(conn, conn.execute(_RUNNING).all())


def running_trials(conn: Connection) -> list[ModelSwitch]:
    """Return those of `running` whose new space is filled for an experiment only."""
    return _switches(conn, conn.execute(_RUNNING.where(model_switches.c.trial_of.is_not(None))).all())


def any_running(conn: Connection) -> bool:
    """Whether a switch is under way."""
    return bool(conn.execute(select(exists().where(model_switches.c.running == 1))).scalar())


def running_of(conn: Connection, tenants: Sequence[str]) -> dict[str, ModelSwitch]:
    """Return the switches of these tenants that are under way, by tenant."""
    found: dict[str, ModelSwitch] = {}
    for names in key_pages(tenants):
        rows = conn.execute(_RUNNING.where(model_switches.c.tenant.in_(names))).all()
        found |= {one.tenant: one for one in _switches(conn, rows)}
    return found


def get(conn: Connection, switch_id: int) -> ModelSwitch | None:
    """Return the switch with this id; None if there is none."""
    rows = conn.execute(_SWITCHES.where(model_switches.c.switch_id == switch_id)).all()
    return next(iter(_switches(conn, rows)), None)


def newest_of(conn: Connection, tenant: str) -> ModelSwitch | None:
    """Return the tenant's switch that began last, though it may have ended; None if it never had one."""
    mine = _SWITCHES.where(model_switches.c.tenant == tenant)
    rows = conn.execute(mine.order_by(model_switches.c.switch_id.desc()).limit(1)).all()
    return next(iter(_switches(conn, rows)), None)


def page(
    conn: Connection, scope: Scope, *, campaign: str | None, ended: bool, limit: int, after: str | None
) -> Page[ModelSwitch]:
    """Return up to `limit` switches within the scope, newest first; with `ended`, those that ended too.

    With a `campaign`, only those that one order began. `after` is the cursor of the page before.
    """
    query = _SWITCHES.where(scope.rows(model_switches.c.tenant))
    if campaign is not None:
        query = query.where(model_switches.c.campaign == campaign)
    if not ended:
        query = query.where(model_switches.c.running == 1)
    if after is not None:
        query = query.where(model_switches.c.switch_id < _LISTING.key_after(after)[0])
    rows = conn.execute(query.order_by(model_switches.c.switch_id.desc()).limit(limit + 1)).all()
    return _LISTING.page(_switches(conn, rows), limit, lambda one: (one.switch_id,))


def tenants_under_way(conn: Connection, *, campaign: str | None = None) -> list[str]:
    """Return the tenants that have a switch under way, by name; with a `campaign`, only those of it."""
    query = select(model_switches.c.tenant).where(model_switches.c.running == 1)
    if campaign is not None:
        query = query.where(model_switches.c.campaign == campaign)
    return list(conn.execute(query.order_by(model_switches.c.tenant)).scalars())


# --- moving ---


def begin(conn: Connection, new: NewSwitch, now: float) -> ModelSwitch | None:
    """Begin a switch. None: the tenant has one under way already."""
    row = {
        "campaign": new.campaign,
        "tenant": new.tenant,
        "from_collection": None if new.from_collection is None else new.from_collection.collection_id,
        "to_collection": new.to_collection.collection_id,
        "phase": SwitchPhase.FILLING,
        "running": 1,
        "percent": 0.0,
        "wanted_percent": new.wanted_percent,
        "sticky_by": new.sticky_by,
        "paused": False,
        "trial_of": new.trial_of,
        "forced": False,
        "most_jobs": new.most_jobs,
        "started_at": now,
        "changed_at": now,
        "divergences": 0,
        "findings": json.dumps(dict(new.findings)),
    }
    done = conn.execute(upsert(conn.dialect.name, model_switches).values(**row).on_conflict_do_nothing())
    return running_of(conn, [new.tenant])[new.tenant] if done.rowcount else None


def lock(conn: Connection, switch_id: int) -> ModelSwitch | None:
    """Return the switch, and keep other units from changing it until this one ends; None if there is none."""
    if conn.dialect.name != "sqlite":
        row = select(model_switches.c.switch_id).where(model_switches.c.switch_id == switch_id)
        conn.execute(row.with_for_update()).all()
    return get(conn, switch_id)


def enter(conn: Connection, switch: ModelSwitch, phase: SwitchPhase, now: float, **found: Any) -> bool:
    """Enter the phase, unless another unit has changed the phase since the switch was read. Returns whether.

    `found` is added to the findings that there are now: an order may have added some since the read.
    """
    present = lock(conn, switch.switch_id)
    if present is None or present.phase is not switch.phase:
        return False
    values: dict[str, Any] = {"phase": phase, "changed_at": now}
    values["findings"] = json.dumps({**present.findings, **found})
    if phase is SwitchPhase.ENDED:
        values |= {"running": None, "ended_at": now}
    conn.execute(
        update(model_switches).where(model_switches.c.switch_id == switch.switch_id).values(**values)
    )
    return True


def change(conn: Connection, switch: ModelSwitch, **values: Any) -> None:
    """Set columns of the switch, which this unit has locked. `findings` are added to those there are."""
    if "findings" in values:
        values["findings"] = json.dumps({**switch.findings, **values["findings"]})
    conn.execute(
        update(model_switches).where(model_switches.c.switch_id == switch.switch_id).values(**values)
    )


def record_divergences(conn: Connection, generation_ids: Sequence[int]) -> None:
    """Note it in each switch of which one space shows one of these generations, and the other one lacks it.

    While the documents of before are embedded, nothing is noted, as each version is in the old space first;
    but of the space that is filled beside the route, which gets documents of its own at any time. While a
    space is emptied, only what that space alone has is noted.
    """
    for ids in key_pages(generation_ids):
        conn.execute(_DIVERGE, {"ids": ids})


def wait_for_completions(conn: Connection) -> None:
    """Wait for the units that complete jobs, and keep others from it until this unit ends.

    SQLite has one unit at a time.
    """
    if conn.dialect.name != "sqlite":
        conn.execute(text("LOCK TABLE jobs IN SHARE ROW EXCLUSIVE MODE"))


# --- documents ---


def count_lacking(conn: Connection, switch: ModelSwitch) -> int:
    """Count the documents of the main side that the other one has not, or only as an older version."""
    return _gaps(conn, switch).documents


def stranded(conn: Connection, switch: ModelSwitch) -> int:
    """Count the documents that only the other side has, or that are newer there."""
    return sum(switch_gaps.measure(conn, way).documents for way in switch.home)


def _gaps(conn: Connection, switch: ModelSwitch) -> Gaps:
    found = [switch_gaps.measure(conn, way) for way in switch.out]
    return Gaps(sum(one.documents for one in found), sum(one.chars for one in found))


@dataclass(frozen=True, slots=True)
class SwitchCounts:
    """Documents that are live on the main side, those of them that the other one has as they are, the
    unfinished jobs of the switch, and the jobs of the switch that failed.

    `chars_left`: the characters of the documents that the other side has not.
    """

    documents: int
    there: int
    under_way: int
    failed: int
    chars_left: int


def counts(conn: Connection, switch: ModelSwitch) -> SwitchCounts:
    """Count how far the switch is. The cost grows with the tenant's documents."""
    live = (
        select(func.count(documents.c.document_id.distinct()))
        .select_from(documents.join(generations, generations.c.document_id == documents.c.document_id))
        .where(
            generations.c.collection_id.in_([way.source.collection_id for way in switch.out]),
            generations.c.state == GenerationState.LIVE,
            documents.c.tenant == switch.tenant,
            documents.c.deleted_at.is_(None),
        )
    )
    total = int(conn.execute(live).scalar_one() or 0)
    mine = jobs.c.switch_id == switch.switch_id
    states = select(
        func.count().filter(jobs.c.finished_at.is_(None)),
        func.count().filter(jobs.c.status == JobStatus.FAILED),
    ).where(mine, jobs.c.tenant == switch.tenant)
    under_way, failed = conn.execute(states).one()
    gaps = _gaps(conn, switch)
    return SwitchCounts(total, total - gaps.documents, under_way, failed, gaps.chars)


def unfinished_jobs(conn: Connection, switch: ModelSwitch) -> int:
    """Count the jobs for documents of before that have not ended."""
    query = select(func.count()).where(
        jobs.c.tenant == switch.tenant,
        jobs.c.finished_at.is_(None),
        jobs.c.switch_id == switch.switch_id,
        jobs.c.flow == BACKFILL_FLOW,
    )
    return int(conn.execute(query).scalar_one())


@dataclass(frozen=True, slots=True)
class UnfinishedJob:
    """A job of a switch that has not ended."""

    job_id: str
    status: JobStatus


def oldest_unfinished_jobs(conn: Connection) -> dict[int, UnfinishedJob]:
    """Return of each switch the job that has been under way for longest, by the id of the switch.

    One without unfinished jobs is left out.
    """
    mine = (jobs.c.finished_at.is_(None), jobs.c.switch_id.is_not(None))
    oldest = select(func.min(jobs.c.job_id)).where(*mine).group_by(jobs.c.switch_id)  # ids grow with time
    query = select(jobs.c.switch_id, jobs.c.job_id, jobs.c.status).where(*mine, jobs.c.job_id.in_(oldest))
    return {row.switch_id: UnfinishedJob(row.job_id, JobStatus(row.status)) for row in conn.execute(query)}


def why_jobs_failed(conn: Connection, switch: ModelSwitch) -> str | None:
    """Return the reason that most open dead letters of the jobs of the switch have; None if there is none."""
    query = (
        select(dead_letters.c.reason)
        .join(jobs, jobs.c.job_id == dead_letters.c.job_id)
        .where(
            jobs.c.tenant == switch.tenant,
            jobs.c.switch_id == switch.switch_id,
            jobs.c.status == JobStatus.FAILED,
            dead_letters.c.ended.is_(None),
        )
        .group_by(dead_letters.c.reason)
        .order_by(func.count().desc(), dead_letters.c.reason)
        .limit(1)
    )
    return conn.execute(query).scalar()


def any_begun_by(conn: Connection, instant: float) -> bool:
    """Whether a job of a switch that was begun by the instant is unfinished."""
    query = select(jobs.c.job_id).where(
        jobs.c.finished_at.is_(None), jobs.c.switch_id.is_not(None), jobs.c.created_at <= instant
    )
    return conn.execute(query.limit(1)).first() is not None


_FROM = collections.alias("from_collection")
_TO = collections.alias("to_collection")
_COLLECTION_COLUMNS = ("collection_id", "model", "space", "dim")

_SWITCHES = (
    select(
        model_switches,
        *(_FROM.c[name].label(f"from_{name}") for name in _COLLECTION_COLUMNS),
        *(_TO.c[name].label(f"to_{name}") for name in _COLLECTION_COLUMNS),
    )
    .outerjoin(_FROM, _FROM.c.collection_id == model_switches.c.from_collection)
    .join(_TO, _TO.c.collection_id == model_switches.c.to_collection)
)

_RUNNING = _SWITCHES.where(model_switches.c.running == 1).order_by(model_switches.c.switch_id)


_HERE = generations.alias("here")
_OF_TENANT = model_switches.alias("of_tenant")
_FROM_ROUTE = _OF_TENANT.c.from_collection.is_(None)
_IS_NEW = _HERE.c.collection_id == _OF_TENANT.c.to_collection
_IS_OLD = or_(
    _HERE.c.collection_id == _OF_TENANT.c.from_collection,
    and_(_FROM_ROUTE, _HERE.c.collection_id != _OF_TENANT.c.to_collection),
)


def _is_beside(there: Any) -> ColumnElement[bool]:
    """Return the condition that a generation is on the other side than `_HERE`."""
    is_old = there.c.collection_id == _OF_TENANT.c.from_collection
    of_route = and_(_FROM_ROUTE, there.c.collection_id != _OF_TENANT.c.to_collection)
    is_new = there.c.collection_id == _OF_TENANT.c.to_collection
    return or_(and_(_IS_NEW, or_(is_old, of_route)), and_(_IS_OLD, is_new))


_IS_EMPTIED = case((_OF_TENANT.c.percent >= 100, _IS_OLD), else_=_IS_NEW)

# From the generations to their switch by its tenant, so that many switches cost no more than one.
_DIVERGED = (
    select(_OF_TENANT.c.switch_id)
    .select_from(_HERE)
    .join(collections, collections.c.collection_id == _HERE.c.collection_id)
    .join(_OF_TENANT, and_(_OF_TENANT.c.tenant == collections.c.tenant, _OF_TENANT.c.running == 1))
    .where(
        _HERE.c.generation_id.in_(bindparam("ids", expanding=True)),
        _HERE.c.state == GenerationState.LIVE,
        or_(_IS_OLD, _IS_NEW),
        or_(
            _OF_TENANT.c.phase.in_((SwitchPhase.CHECKING, SwitchPhase.SERVING)),
            and_(_OF_TENANT.c.phase == SwitchPhase.RETIRING, _IS_EMPTIED),
            and_(_FROM_ROUTE, _IS_NEW),
        ),
        switch_gaps.is_gap_in(_HERE, _is_beside),
    )
)

_DIVERGE = (
    update(model_switches)
    .where(model_switches.c.switch_id.in_(_DIVERGED))
    .values(divergences=model_switches.c.divergences + 1)
)


def _switches(conn: Connection, rows: Sequence[Row[Any]]) -> list[ModelSwitch]:
    return [_switch(row, _route(conn, row) if row.from_collection is None else ()) for row in rows]


def _route(conn: Connection, row: Row[Any]) -> tuple[Collection, ...]:
    mine = collection_records.of_tenant(conn, row.tenant)
    return tuple(one for one in mine if one.collection_id != row.to_collection)


def _switch(row: Row[Any], route: tuple[Collection, ...]) -> ModelSwitch:
    source = None
    if row.from_collection is not None:
        source = Collection(row.from_collection_id, row.tenant, row.from_model, row.from_space, row.from_dim)
    return ModelSwitch(
        switch_id=row.switch_id,
        campaign=row.campaign,
        tenant=row.tenant,
        from_collection=source,
        to_collection=Collection(row.to_collection_id, row.tenant, row.to_model, row.to_space, row.to_dim),
        phase=SwitchPhase(row.phase),
        percent=row.percent,
        wanted_percent=row.wanted_percent,
        sticky_by=row.sticky_by,
        paused=bool(row.paused),
        trial_of=row.trial_of,
        forced=bool(row.forced),
        most_jobs=row.most_jobs,
        started_at=row.started_at,
        changed_at=row.changed_at,
        switched_at=row.switched_at,
        ended_at=row.ended_at,
        divergences=row.divergences,
        findings=json.loads(row.findings),
        route=route,
    )
