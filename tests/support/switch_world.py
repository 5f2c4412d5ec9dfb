"""A tenant that is switched to another model, in SQL alone: the test ends its jobs, and is the leader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, select, update

from embedfleet.errors import InvalidRequest, NotReady
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import ending, retrying
from embedfleet.lifecycle.admission import Admission, stored_content
from embedfleet.lifecycle.completion import publish_done
from embedfleet.model_switching import orders, retiring, switcher
from embedfleet.model_switching.backfill import Backfill
from embedfleet.queue_schemas import JobRequest, JobStatus, Stage, UserTier
from embedfleet.records import (
    generations,
    identity,
    job_completion,
    job_counts,
    jobs,
    model_switches,
    switch_gaps,
    twins,
)
from embedfleet.records.arms import ROUTE
from embedfleet.records.collections import Collection
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.records.jobs import Job
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.records.scope_marks import ScopeMark, mark_of
from embedfleet.searching.scope import SearchScope
from embedfleet.searching.search import SearchRequest, SearchService, SpacesSearch
from embedfleet.sql import document_lock, tables
from embedfleet.sql.database import Database
from embedfleet.sql.states import GenerationState, SwitchPhase
from support.model_switches import MODELS, NEW
from support.system import make_settings

MEDIA = "12"
TEXTS = ["one", "another one", "yet another"]
ENDS = ["completed", "completed with errors", "failed", "given up", "cancelled"]


@dataclass(frozen=True)
class Step:
    """Something that happens. `which` chooses among the jobs that it may happen to.

    `model` is that of a submission; None: it names none.
    """

    what: str
    media: str = "1"
    text: str = TEXTS[0]
    which: int = 0
    percent: float = 100.0
    model: str | None = None


Side = tuple[Sequence[Collection], Sequence[Collection]]
"""The collections of a side that answers, and the one beside the route, of which it has what they lack."""


class Clock:
    """Every instant that it gives is later than the one before."""

    def __init__(self) -> None:
        self._now = 1_700_000_000.0

    def now(self) -> float:
        self._now += 0.125
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


@dataclass
class World:
    """A tenant without workers: the test ends its jobs, and does what the leader would do.

    `seen`: the text of each document that readers must see, made by the last submitted job that ended well.
    `searches`: whether it is checked, too, what searches find that decided earlier where to look.
    """

    engine: Engine
    admission: Admission
    catalogue: Catalogue
    clock: Clock
    tenant: str
    seen: dict[str, str] = field(default_factory=dict)
    ended: set[tuple[str, int]] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    without_own: dict[tuple[int, int], int] = field(default_factory=dict)
    looked: int | None = None
    scopes: dict[ScopeMark, list[SearchScope]] = field(default_factory=dict)
    searches: bool = False

    def unit(self, work: Callable[[Connection], Any]) -> Any:
        with self.engine.begin() as conn:
            document_lock.begin(conn)
            return work(conn)

    def take(self, step: Step) -> None:
        act = getattr(self, f"_{step.what.replace(' ', '_')}", None)
        if act is None:
            self.unit(partial(self._end, step=step))
        else:
            try:
                self.unit(partial(act, step=step))
            except (InvalidRequest, NotReady):
                return

    # --- what clients do ---

    def _wait(self, conn: Connection, step: Step) -> None:
        """An hour passes."""
        self.clock.advance(3600.0)

    def _submit(self, conn: Connection, step: Step) -> None:
        request = JobRequest(
            media_id=step.media,
            user_id=self.tenant,
            content=step.text,
            user_tier=UserTier.PREMIUM,
            model=step.model,
        )
        known = self.admission.read_routing(conn, [request])
        [job_id] = self.admission.admit(conn, [self.admission.prepare(request, known)])
        self.texts[job_id] = step.text

    def _delete(self, conn: Connection, step: Step) -> None:
        document_id = self._document(step)
        document_lock.lock(conn, [document_id])
        ending.delete_documents(conn, [document_id], self.clock.now())
        self.seen.pop(document_id, None)

    def _retry(self, conn: Connection, step: Step) -> None:
        job = self.job(conn, step, ended=True)
        if job is not None:
            retrying.retry(conn, job, self.clock.now())

    # --- what workers do ---

    def _end(self, conn: Connection, step: Step) -> None:
        job = self.job(conn, step, ended=False)
        if job is None:
            return
        if step.what == "cancelled":
            ending.cancel(conn, job, self.clock.now())
        elif step.what == "given up":
            jobs.start_chunking(conn, [job.job_id], self.clock.now())
            ending.give_up(conn, job, DeadLetter(Stage.CHUNKING, "broken"), self.clock.now())
        else:
            dead = {"completed": 0, "completed with errors": 1, "failed": 3}[step.what]
            self.count_as_done(conn, job, dead)
            publish_done(conn, [job], self.clock.now())

    def count_as_done(self, conn: Connection, job: Job, dead: int = 0) -> None:
        done = {
            "sealed": True,
            "batches_total": 1,
            "batches_done": 1,
            "started_at": job.started_at or self.clock.now(),
        }
        counts = {"chunks_total": 3, "chunks_dead": dead, "chunks_stored": 3 - dead}
        conn.execute(update(tables.jobs).where(tables.jobs.c.job_id == job.job_id).values(**done, **counts))

    # --- what operators and the leader do ---

    def _begin(self, conn: Connection, step: Step) -> None:
        model = step.text == TEXTS[0] and self.switch(conn) is None
        to = NEW if model else self.catalogue.names()[0]
        orders.begin(conn, [self.tenant], orders.Wanted(self.catalogue.info(to)), self.clock.now())

    def _leave_route(self, conn: Connection, step: Step) -> None:
        """All documents are to go to the new model, wherever they are."""
        wanted = orders.Wanted(self.catalogue.info(NEW), ROUTE, step.percent)
        orders.begin(conn, [self.tenant], wanted, self.clock.now())

    def _try(self, conn: Connection, step: Step) -> None:
        """The new model is compared with the route."""
        wanted = orders.Wanted(self.catalogue.info(NEW), ROUTE, 0.0)
        orders.begin_trial(conn, self.tenant, wanted, "exp", self.clock.now())

    def _promote(self, conn: Connection, step: Step) -> None:
        orders.promote(conn, self.tenant)

    def _free(self, conn: Connection, step: Step) -> None:
        orders.retire_trial(conn, self.tenant, self.clock.now())

    def _serve(self, conn: Connection, step: Step) -> None:
        orders.serve(conn, self.tenant, step.percent, self.clock.now())

    def _force(self, conn: Connection, step: Step) -> None:
        orders.force(conn, self.tenant, self.clock.now(), actor="op")

    def _retire(self, conn: Connection, step: Step) -> None:
        orders.retire(conn, self.tenant, self.clock.now())

    def _lead(self, conn: Connection, step: Step) -> None:
        done = job_completion.released(conn, self.clock.now(), 100)
        publish_done(conn, list(jobs.lock_many(conn, done).values()), self.clock.now())
        switch = self.switch(conn)
        if switch is None:
            return
        filled = self._fill(conn, switch)
        if switch.phase is SwitchPhase.FILLING and filled:
            model_switches.enter(conn, switch, SwitchPhase.CHECKING, self.clock.now())
        elif switch.phase is SwitchPhase.CHECKING and filled:
            self._look(conn, step)
            self._open(conn, step)
        elif switch.phase is SwitchPhase.RETIRING:
            self._settle(conn, switch, filled)

    def _look(self, conn: Connection, step: Step) -> None:
        """The leader looks whether a document is lacking."""
        switch = self.switch(conn)
        self.looked = None if switch is None else switcher._complete_at(conn, switch)

    def _open(self, conn: Connection, step: Step) -> None:
        """It opens the new space by what it has looked up, perhaps long before."""
        switch = self.switch(conn)
        if switch is not None and self.looked is not None:
            switcher._open(conn, switch, self.looked, self.clock.now())

    def _fill(self, conn: Connection, switch: ModelSwitch) -> bool:
        """As `Backfill.fill` does, in one unit."""
        backfill = Backfill(cast(Database, None), self.clock, most_jobs=10, default_tier=UserTier.FREE)
        found = False
        for way in switch.ways:
            some = switch_gaps.to_copy(conn, way, limit=10)
            if some:
                backfill._begin(conn, switch, way, some)
                found = True
        return not found and not model_switches.unfinished_jobs(conn, switch)

    def _settle(self, conn: Connection, switch: ModelSwitch, filled: bool) -> None:
        for way in switch.home:
            some = twins.to_settle(conn, self.tenant, kept=way.target, dropped=way.source, limit=10)
            retiring._settle(conn, switch, way, some, self.clock.now())
        if filled and all(retiring._left(conn, switch, one).settled for one in switch.emptied):
            every = [self._document(Step("", media=one)) for one in MEDIA]
            document_lock.lock(conn, every)
            for way in switch.home:
                older = twins.live_in(conn, switch_gaps.among(conn, way, every), way.target)
                twins.settle(conn, older, kept=way.source, dropped=way.target)
            model_switches.enter(conn, switch, SwitchPhase.ENDED, self.clock.now())

    # --- looking ---

    def _document(self, step: Step) -> str:
        return identity.document_id(self.tenant, step.media)

    def switch(self, conn: Connection) -> ModelSwitch | None:
        return model_switches.running_of(conn, [self.tenant]).get(self.tenant)

    def job(self, conn: Connection, step: Step, *, ended: bool) -> Job | None:
        table = tables.jobs
        mine = select(table).where(
            table.c.document_id == self._document(step),
            table.c.finished_at.is_not(None) if ended else table.c.finished_at.is_(None),
        )
        found = conn.execute(mine.order_by(table.c.created_at.desc(), table.c.switch_id.is_not(None))).all()
        job = jobs.job_of(found[step.which % len(found)]) if found else None
        return None if job is None else jobs.lock(conn, job.job_id)

    def check(self) -> None:
        self.unit(self._check)

    def _check(self, conn: Connection) -> None:
        switch = self.switch(conn)
        mine = select(tables.jobs).where(tables.jobs.c.tenant == self.tenant)
        every = [jobs.job_of(row) for row in conn.execute(mine.order_by(tables.jobs.c.finished_at))]
        self._check_jobs(conn, every)
        self._note_ends(every)
        places = [
            self._check_document(conn, identity.document_id(self.tenant, media), switch) for media in MEDIA
        ]
        if switch is not None and switch.phase in (SwitchPhase.SERVING, SwitchPhase.RETIRING):
            for way in switch.ways:
                assert not switch_gaps.any_open(conn, way), "a space lacks what the other one shows"
        if switch is not None:
            self._check_divergences(conn, switch)
        if self.searches:
            self._check_searches(conn, switch, places)

    def _check_searches(
        self, conn: Connection, switch: ModelSwitch | None, places: Sequence[set[Collection]]
    ) -> None:
        """No search finds a document twice, or a copy on trial, however long ago it decided where to look.

        It decided after an earlier step, finds its rows now, and takes the answer if the mark is equal.
        `places` has the collections in which each document is live.
        """
        mark = mark_of(conn, self.tenant)
        scopes = self.scopes.setdefault(mark, [])
        is_trial = switch is not None and switch.is_trial
        for model in (None, NEW) if is_trial else (None,):
            scope = _SEARCHES._scope(conn, self.tenant, SearchRequest(query="harbours", model=model))
            if scope not in scopes:
                scopes.append(scope)
        for live in places:
            for scope in scopes:
                found = [
                    one
                    for one in scope.collections
                    if one in live and not live & set(scope.beside.get(one, ()))
                ]
                assert len(found) <= 1, "a search finds a document twice"
                if switch is not None and switch.is_trial and switch.to_collection in found:
                    assert not live & set(switch.sources), "a search finds a copy on trial"

    def _check_divergences(self, conn: Connection, switch: ModelSwitch) -> None:
        """A space that had no document of its own has none while the switch notes no divergence.

        Searches remember it, of the spaces that do not answer a query or did not.
        """
        # In `checking` the new one is not asked yet, but is opened by what was looked up.
        is_answering = {
            SwitchPhase.CHECKING: None,
            SwitchPhase.SERVING: None,
            SwitchPhase.RETIRING: switch.main,
        }
        answering = is_answering.get(switch.phase, switch.old)
        for hidden in (*switch.sources, switch.to_collection):
            side = switch.new if hidden == switch.to_collection else switch.old
            if side == answering:
                continue  # it answers all queries in this phase, and is never the hidden one
            key = (switch.switch_id, hidden.collection_id)
            others = switch.beside(hidden)
            has_own = bool(twins.count_only_in(conn, hidden, others))
            if switch.phase in (SwitchPhase.CHECKING, SwitchPhase.SERVING):
                # An older version on the other side counts too.
                ways = [switch_gaps.Way(switch.switch_id, hidden, one, only_known=True) for one in others]
                has_own = has_own or any(switch_gaps.measure(conn, way).documents for way in ways)
            if not has_own:
                self.without_own[key] = switch.divergences
            else:
                assert self.without_own.get(key) != switch.divergences, "a document is hidden"

    def _check_jobs(self, conn: Connection, every: Sequence[Job]) -> None:
        unfinished = [job for job in every if job.finished_at is None]
        submitted = [job for job in unfinished if job.switch_id is None]
        counted = job_counts.count_unfinished(conn, [self.tenant]).get(self.tenant, 0)
        assert counted == len(submitted), "twins are counted"
        for some in (submitted, [job for job in unfinished if job.switch_id is not None]):
            assert len({job.document_id for job in some}) == len(some), "two of a kind for one document"
        query = select(tables.events.c.job_id, tables.events.c.run).where(
            tables.events.c.tenant == self.tenant
        )
        told = sorted((row.job_id, row.run) for row in conn.execute(query))
        assert len(set(told)) == len(told), "told twice"
        assert {job_id for job_id, _ in told} <= {job.job_id for job in every if job.switch_id is None}
        ended = {(job.job_id, job.run) for job in every if job.switch_id is None and job.finished_at}
        assert ended <= set(told), "an end was not told"

    def _note_ends(self, every: Sequence[Job]) -> None:
        good = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)
        for job in every:
            run = (job.job_id, job.run)
            if job.switch_id is None and job.finished_at is not None and run not in self.ended:
                self.ended.add(run)
                if job.status in good:
                    self.seen[job.document_id] = self.texts[job.job_id]

    def _check_document(
        self, conn: Connection, document_id: str, switch: ModelSwitch | None
    ) -> set[Collection]:
        """Check what readers see of a document. Return the collections in which it is live."""
        made = generations.generations_of(conn, document_id)
        live = [one for one in made if one.state is GenerationState.LIVE]
        query = select(tables.documents.c.live_generation, tables.documents.c.deleted_at).where(
            tables.documents.c.document_id == document_id
        )
        row = conn.execute(query).one_or_none()
        if row is None or row.deleted_at is not None:
            assert not live
            return set()
        assert len({one.collection for one in live}) == len(live), "two live versions in one space"
        if switch is None:
            assert len(live) <= 1, "live in two spaces without a switch"
        assert bool(live) == (document_id in self.seen), "what readers see is not what was made"
        if live:
            assert row.live_generation in {one.number for one in live}
        for side in self._answering(switch, live):
            seen = self._seen(side, live)
            assert len(seen) <= 1, "the route shows two versions"
            if {one.recipe.content_hash for one in seen} != {hash_of(self.seen[document_id])}:
                assert self._is_given_up(conn, switch, side), "a side that answers shows another text"
        return {one.collection for one in live}

    def _answering(self, switch: ModelSwitch | None, live: Sequence[Any]) -> list[Side]:
        """The sides that answer queries, and so must show each document that readers see."""
        if not live:
            return []
        if switch is None:
            return [((one.collection,), ()) for one in live]
        old = (switch.sources, (switch.to_collection,) if switch.leaves_route else ())
        new = ((switch.to_collection,), ())
        if 0 < switch.percent < 100:
            return [old, new]
        return [new if switch.percent >= 100 else old]

    def _seen(self, side: Side, live: Sequence[Any]) -> list[Any]:
        """What readers of a side see: what its spaces have, or else what is in the space beside the route."""
        spaces, beside = side
        return [one for one in live if one.collection in spaces] or [
            one for one in live if one.collection in beside
        ]

    def _is_given_up(self, conn: Connection, switch: ModelSwitch | None, side: Side) -> bool:
        if switch is None:
            return False
        ways = [way for way in switch.ways if way.target in side[0]]
        return any(switch_gaps.any_given_up(conn, way) for way in ways)

    def run_to_the_end(self) -> None:
        """Let all jobs end well, and the leader do all it can."""
        for _ in range(6):
            for media in MEDIA:
                self.take(Step("completed", media=media, which=1))
                self.take(Step("completed", media=media))
            self.take(Step("lead"))
            self.check()
        self.unit(self._check_end)

    def _check_end(self, conn: Connection) -> None:
        switch = self.switch(conn)
        if switch is None:
            return
        gaps = [switch_gaps.any_open(conn, way) for way in switch.ways]
        assert gaps == [False] * len(gaps)
        table = tables.jobs
        given_up = select(table.c.job_id).where(
            table.c.tenant == self.tenant,
            table.c.switch_id.is_not(None),
            (table.c.status == JobStatus.FAILED) | (table.c.reason == jobs.CANCELLED),
        )
        if conn.execute(given_up).first() is None:
            assert switch.is_trial or switch.phase is SwitchPhase.SERVING


def hash_of(text: str) -> str:
    return stored_content(text, None).hash


A_SWITCH = [
    Step("submit"),
    Step("completed"),
    Step("begin"),
    Step("lead"),
    Step("completed"),
    Step("lead"),
    Step("lead"),
]


def system_of(folder: Path, models: Mapping[str, Any] = MODELS) -> tuple[Admission, Catalogue]:
    settings = make_settings(folder, models=models)
    catalogue = Catalogue(settings.models)
    return Admission(settings, catalogue, _CLOCK), catalogue


def new_world(engine: Engine, system: tuple[Admission, Catalogue], *, searches: bool = False) -> World:
    """A world with a tenant of its own."""
    return World(engine, *system, _CLOCK, f"{next(_WORLDS):06}", searches=searches)


# It decides where to look, and looks nowhere.
_SEARCHES = SearchService(cast(Database, None), cast(SpacesSearch, None))
_CLOCK = Clock()
_WORLDS = count()
