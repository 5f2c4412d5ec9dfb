"""Experiments: comparisons of two arms, which are models or the route, for a tenant.

A tenant has at most one under way.

What a rule and what findings say is JSON here: the package `experiments` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, exists, select, update

from embedfleet.records.arms import Arm
from embedfleet.records.collections import Collection
from embedfleet.records.cursors import Listing, Page
from embedfleet.sql.experiment_tables import experiments
from embedfleet.sql.model_tables import model_switches
from embedfleet.sql.states import ExperimentPhase, QuestionSource
from embedfleet.sql.tables import collections
from embedfleet.sql.upsert import upsert

_LISTING = Listing("experiments", (float, str))


@dataclass(frozen=True, slots=True)
class Experiment:
    """A comparison of two arms of a tenant. Instants are Unix times."""

    experiment_id: str
    tenant: str
    owner: str
    arm_a: Arm
    arm_b: Arm
    source: QuestionSource
    phase: ExperimentPhase
    keep: bool
    rule: Mapping[str, Any]
    begun_at: float
    expires_at: float
    ended_at: float | None = None
    findings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.phase is not ExperimentPhase.ENDED

    @property
    def arms(self) -> tuple[Arm, Arm]:
        return self.arm_a, self.arm_b

    @property
    def has_route(self) -> bool:
        return self.arm_a.is_route or self.arm_b.is_route

    @property
    def own(self) -> Arm:
        """The arm that the tenant has without the experiment."""
        return self.arm_b if self.arm_b.is_route else self.arm_a

    @property
    def other(self) -> Arm:
        """The arm whose space is filled for the experiment."""
        return self.arm_a if self.arm_b.is_route else self.arm_b

    def is_of(self, *arms: Arm) -> bool:
        """Whether these two arms are compared, in either order."""
        return set(self.arms) == set(arms)


def begin(conn: Connection, new: Experiment) -> bool:
    """Write an experiment that begins. Return False if the tenant has one under way; nothing is written."""
    row = upsert(conn.dialect.name, experiments).values(
        experiment_id=new.experiment_id,
        tenant=new.tenant,
        owner=new.owner,
        collection_a=_id_of(new.arm_a),
        collection_b=_id_of(new.arm_b),
        source=new.source,
        phase=new.phase,
        running=1,
        keep=new.keep,
        rule=json.dumps(dict(new.rule)),
        begun_at=new.begun_at,
        expires_at=new.expires_at,
        findings=json.dumps(dict(new.findings)),
    )
    unless_running = row.on_conflict_do_nothing(index_elements=["tenant_id", "running"])
    return conn.execute(unless_running.returning(experiments.c.experiment_id)).first() is not None


def any_running(conn: Connection) -> bool:
    """Whether an experiment is under way, or a space of one that has ended is still kept."""
    under_way = exists().where(experiments.c.running == 1)
    kept = exists().where(model_switches.c.running == 1, model_switches.c.trial_of.is_not(None))
    return bool(conn.execute(select(under_way | kept)).scalar())


def running(conn: Connection) -> list[Experiment]:
    """Return the experiments that are under way, oldest first."""
    query = _ROWS.where(experiments.c.running == 1)
    return [_experiment(row) for row in conn.execute(query.order_by(experiments.c.begun_at, "experiment_id"))]


def running_of(conn: Connection, tenant: str) -> Experiment | None:
    """Return the experiment of the tenant that is under way; None if none is."""
    return _one(conn.execute(_ROWS.where(experiments.c.tenant == tenant, experiments.c.running == 1)))


def showing_of(conn: Connection, tenant: str, now: float) -> Experiment | None:
    """Return the online experiment of the tenant whose hits are shown now; None if there is none."""
    query = _ROWS.where(
        experiments.c.tenant == tenant,
        experiments.c.running == 1,
        experiments.c.phase == ExperimentPhase.SHOWING,
        experiments.c.expires_at > now,
    )
    return _one(conn.execute(query))


def get(conn: Connection, experiment_id: str) -> Experiment | None:
    """Return the experiment with this id; None if there is none."""
    return _one(conn.execute(_ROWS.where(experiments.c.experiment_id == experiment_id)))


def lock(conn: Connection, experiment_id: str) -> Experiment | None:
    """Return the experiment, and keep other units from changing it until this one ends."""
    if conn.dialect.name != "sqlite":
        mine = select(experiments.c.experiment_id).where(experiments.c.experiment_id == experiment_id)
        conn.execute(mine.with_for_update()).all()
    return get(conn, experiment_id)


def page(conn: Connection, *, limit: int, after: str | None) -> Page[Experiment]:
    """Return up to `limit` experiments, newest first. `after` is the cursor of the page before."""
    query = _ROWS.order_by(experiments.c.begun_at.desc(), experiments.c.experiment_id)
    if after is not None:
        at, experiment_id = _LISTING.key_after(after)
        query = query.where(
            (experiments.c.begun_at < at)
            | ((experiments.c.begun_at == at) & (experiments.c.experiment_id > experiment_id))
        )
    found = [_experiment(row) for row in conn.execute(query.limit(limit + 1))]
    return _LISTING.page(found, limit, lambda one: (one.begun_at, one.experiment_id))


def enter(conn: Connection, one: Experiment, phase: ExperimentPhase, **found: Any) -> bool:
    """Enter the phase, unless another unit has changed the phase since it was read. Returns whether.

    `found` is added to the findings.
    """
    present = lock(conn, one.experiment_id)
    if present is None or present.phase is not one.phase:
        return False
    _change(conn, present, found, phase=phase)
    return True


def end(conn: Connection, one: Experiment, now: float, **found: Any) -> bool:
    """End the experiment. Return False if it had ended before, and change nothing then.

    `found` is added to the findings.
    """
    # It may have entered another phase since it was read: what was found there stays.
    present = lock(conn, one.experiment_id)
    if present is None or not present.running:
        return False
    _change(conn, present, found, phase=ExperimentPhase.ENDED, running=None, ended_at=now)
    return True


def keep_no_longer(conn: Connection, one: Experiment) -> None:
    """Let the space of an experiment that has ended, and that this unit has locked, be freed at once."""
    _change(conn, one, {"kept_until": one.ended_at}, keep=False)


def record_promotion(conn: Connection, one: Experiment, arm: Arm) -> None:
    """Note which arm of an experiment, which this unit has locked, the tenant was given."""
    _change(conn, one, {"promoted": arm.name})


def _change(conn: Connection, one: Experiment, found: Mapping[str, Any], **values: Any) -> None:
    values["findings"] = json.dumps({**one.findings, **found})
    conn.execute(update(experiments).where(experiments.c.experiment_id == one.experiment_id).values(**values))


_A = collections.alias("a")
_B = collections.alias("b")
_COLLECTION_COLUMNS: Sequence[str] = ("collection_id", "model", "space", "dim")

_ROWS = (
    select(
        experiments,
        *(_A.c[name].label(f"a_{name}") for name in _COLLECTION_COLUMNS),
        *(_B.c[name].label(f"b_{name}") for name in _COLLECTION_COLUMNS),
    )
    .outerjoin(_A, _A.c.collection_id == experiments.c.collection_a)
    .outerjoin(_B, _B.c.collection_id == experiments.c.collection_b)
)


def _one(rows: Any) -> Experiment | None:
    row = rows.one_or_none()
    return None if row is None else _experiment(row)


def _id_of(arm: Arm) -> int | None:
    return None if arm.collection is None else arm.collection.collection_id


def _arms(row: Row[Any]) -> tuple[Arm, Arm]:
    a, b = (
        None
        if getattr(row, f"collection_{side}") is None
        else Collection(
            getattr(row, f"{side}_collection_id"),
            row.tenant,
            getattr(row, f"{side}_model"),
            getattr(row, f"{side}_space"),
            getattr(row, f"{side}_dim"),
        )
        for side in ("a", "b")
    )
    return Arm(a, b if a is None else None), Arm(b, a if b is None else None)


def _experiment(row: Row[Any]) -> Experiment:
    arm_a, arm_b = _arms(row)
    return Experiment(
        experiment_id=row.experiment_id,
        tenant=row.tenant,
        owner=row.owner,
        arm_a=arm_a,
        arm_b=arm_b,
        source=QuestionSource(row.source),
        phase=ExperimentPhase(row.phase),
        keep=bool(row.keep),
        rule=json.loads(row.rule),
        begun_at=row.begun_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        findings=json.loads(row.findings),
    )
