"""What the workers have to do and can do, as it is read from SQL: the basis of every ETA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from embedfleet.eta import CHARS_PER_TOKEN, StagePower, WorkAhead, pace, seconds_left, two_digits
from embedfleet.explanation import BEFORE_SEARCH, Pool
from embedfleet.queue_schemas import Stage
from embedfleet.quota import limits_of
from embedfleet.records import backlog, fleet, tenants
from embedfleet.records.backlog import Ahead, Work
from embedfleet.records.fleet import RunningOrchestrator
from embedfleet.records.tenants import TenantRow
from embedfleet.settings.tenants import TenantsSettings

_NO_WORK = Work()


@dataclass(frozen=True, slots=True)
class Workload:
    """The work of each tenant that has some, the weights of these tenants, and the pools of all hosts."""

    running: bool
    pools: Mapping[Stage, Pool]
    work: Mapping[str, Work]
    weights: Mapping[str, float]

    @property
    def rate(self) -> float | None:
        """The tokens a second of the slowest stage before a search; None if none was measured."""
        return pace({stage.value: self.pools[stage].power for stage in BEFORE_SEARCH})

    def share_of(self, tenant: str) -> float:
        """Return the tenant's part of the workers, above 0 and up to 1, among the tenants with work."""
        own = self.weights.get(tenant, 1.0)
        return own / (own + sum(weight for name, weight in self.weights.items() if name != tenant))

    def others_than(self, tenant: str) -> int:
        """Count the other tenants that have work."""
        return sum(name != tenant for name in self.work)

    def before(self, tenant: str, ahead: Ahead) -> WorkAhead:
        """Return what is left to do before a job of the tenant has ended."""
        total = sum(work.chars for work in self.work.values())
        own = ahead.chars + ahead.first.chars
        return WorkAhead(own / CHARS_PER_TOKEN, total / CHARS_PER_TOKEN, self.share_of(tenant))

    def seconds_until_done(self, tenant: str, ahead: Ahead) -> float | None:
        """Return about how long it takes until a job of the tenant has ended; None: it cannot be told."""
        return self._seconds(self.before(tenant, ahead))

    def seconds_until_all_idle(self) -> float | None:
        """Return about how long it takes until all jobs have ended; None: it cannot be told."""
        total = sum(work.chars for work in self.work.values()) / CHARS_PER_TOKEN
        return self._seconds(WorkAhead(total, total, 1.0))

    def seconds_until_idle(self, tenant: str) -> float | None:
        """Return about how long it takes until all jobs of the tenant have ended; None: it cannot be told."""
        return self.seconds_until_done(tenant, Ahead(0.0, self.work.get(tenant, _NO_WORK)))

    def _seconds(self, work: WorkAhead) -> float | None:
        if not self.running or any(not self.pools[stage].power.workers for stage in BEFORE_SEARCH):
            return None
        return two_digits(seconds_left(work, self.rate))


def read_workload(conn: Connection, settings: TenantsSettings, now: float) -> Workload:
    """Read the workload at `now` (Unix seconds)."""
    running = fleet.running(conn, now)
    work = backlog.by_tenant(conn)
    rows = tenants.get_many(conn, list(work))
    weights: dict[str, float] = {}
    for name in work:
        row = rows.get(name, TenantRow(name))
        weights[name] = limits_of(settings, row.tier, row.limits).values.weight
    return Workload(bool(running), _pools(running), work, weights)


def _pools(running: Sequence[RunningOrchestrator]) -> dict[Stage, Pool]:
    """Add up the pools of all hosts. A stage is in trouble if no host can work on it."""
    found: dict[Stage, Pool] = {}
    for stage in Stage:
        reports = [one.pools[stage] for one in running if stage in one.pools]
        rates = [report.rate for report in reports if report.rate]
        workers = sum(report.workers for report in reports)
        # A host that did not measure yet counts as fast as the mean of the others.
        rate = sum(rates) / len(rates) * workers if rates and workers else None
        troubles = [report.trouble for report in reports if report.workers]
        stuck = all(trouble is not None for trouble in troubles)
        found[stage] = Pool(StagePower(workers, rate), troubles[0] if troubles and stuck else None)
    return found
