"""Takes the switches to other models from phase to phase. All that it knows is in SQL (ADR 34)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import InputError, Permanent, one_line
from embedfleet.lifecycle.completion import publish_done
from embedfleet.model_switching import orders, retiring
from embedfleet.model_switching.backfill import fill
from embedfleet.model_switching.coverage import Coverage, read_coverage
from embedfleet.model_switching.gate import Answers, Gate, as_findings, judge
from embedfleet.queue_schemas import UserTier
from embedfleet.records import jobs, model_switches, switch_questions
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase
from embedfleet.vectors.port import VectorStore

_LOCK = "model_switches"
_SECONDS_PER_DAY = 86_400.0
# Jobs that waited for a twin that has ended otherwise than by completing are looked for among this number.
_MOST_RELEASED = 500


class ModelSwitcher:
    """Carries the switches on, in steps that may be interrupted anywhere.

    It belongs to the leader. Of several switchers of a system, one at a time does anything: a lock that lives
    with its process says which one.
    """

    def __init__(
        self,
        database: Database,
        store: VectorStore,
        gate: Gate,
        truth: TrueVectors,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._database = database
        self._store = store
        self._gate = gate
        self._truth = truth
        self._clock = clock
        self._settings = settings
        self._own = settings.model_switching

    async def step(self) -> None:
        """Take every switch that is under way as far as it goes now. Without one, do nothing."""
        if not await self._database.read(model_switches.any_running):
            return
        async with self._database.sole(_LOCK) as sole:
            if sole is None:
                return
            await self._release()
            for switch in _in_turn(await self._database.read(model_switches.running), self._own.most_tenants):
                await sole.require()
                await self._take(switch)

    async def _release(self) -> None:
        """End submitted jobs that waited for a twin which has failed, was cancelled, or takes too long."""
        now = self._clock.now()

        def release(conn: Connection) -> None:
            waiting = jobs.done_and_unfinished(conn, _MOST_RELEASED)
            if waiting:
                publish_done(conn, list(jobs.lock_many(conn, waiting).values()), now)

        if await self._database.read(partial(jobs.done_and_unfinished, limit=1)):
            await self._database.write(release)

    async def _take(self, switch: ModelSwitch) -> None:
        match switch.phase:
            case SwitchPhase.FILLING:
                # A trial stays here, where no submission waits for its twin, until it is promoted.
                if await self._filled(switch) and not switch.is_trial:
                    await self._enter(switch, SwitchPhase.CHECKING)
            case SwitchPhase.CHECKING:
                if await self._filled(switch):
                    await self._check(switch)
            case SwitchPhase.REFUSED:
                await self._filled(switch)
            case SwitchPhase.SERVING:
                await self._filled(switch)
                await self._retire_in_time(switch)
            case SwitchPhase.RETIRING:
                await self._retire(switch)
            case _:
                return

    async def _filled(self, switch: ModelSwitch) -> bool:
        if switch.paused:
            return False
        return await fill(
            self._database,
            switch,
            most=switch.most_jobs or self._own.most_jobs,
            default_tier=UserTier(self._settings.tenants.default_tier),
            now=self._clock.now(),
        )

    async def _check(self, switch: ModelSwitch) -> None:
        """Read the new space back and ask it. Then its share of the queries is served, or it is refused.

        Documents whose jobs ended just before this phase have their twins under way. These are waited for;
        there come no more, as from this phase on a job ends together with its twin.
        """
        if await self._database.read(partial(model_switches.any_on_its_way, switch=switch)):
            return
        if not switch.findings.get("gate", {}).get("passed"):
            switch = await self._judged(switch)
        if switch.phase is not SwitchPhase.CHECKING:
            return
        now = self._clock.now()
        if await self._database.write(partial(_open, switch=switch, now=now)):
            logger.bind(tenant=switch.tenant).info(
                "{} % of the queries are answered with model {} now",
                f"{switch.wanted_percent:g}",
                switch.to_collection.model,
            )

    async def _judged(self, switch: ModelSwitch) -> ModelSwitch:
        answers: Answers | None = None
        found: Coverage | None = None
        try:
            found = await read_coverage(self._database, self._store, self._truth, switch)
            answers = await self._gate.ask(switch)
            reasons = [*([found.fault] if found.fault else []), *judge(answers, self._own.gate)]
        except (InputError, Permanent) as exc:
            reasons = [one_line(exc)]
        now = self._clock.now()
        gate = {**as_findings(answers, reasons), "passed": not reasons or switch.forced, "at": now}
        coverage = None if found is None else found.json_document()
        refused = bool(reasons) and not switch.forced
        if reasons:
            logger.bind(tenant=switch.tenant).warning(
                "the gate {} the switch to model {}: {}",
                "refuses" if refused else "would refuse, but is forced to pass,",
                switch.to_collection.model,
                "; ".join(reasons),
            )

        def record(conn: Connection) -> ModelSwitch:
            present = model_switches.lock(conn, switch.switch_id)
            if present is None or present.phase is not SwitchPhase.CHECKING:
                return present or switch
            switch_questions.replace(conn, present, () if answers is None else answers.worst)
            phase = SwitchPhase.REFUSED if refused else SwitchPhase.CHECKING
            model_switches.enter(conn, present, phase, now, gate=gate, coverage=coverage)
            again = model_switches.get(conn, switch.switch_id)
            assert again is not None
            return again

        return await self._database.write(record)

    async def _retire_in_time(self, switch: ModelSwitch) -> None:
        """Retire the old space by itself when it was kept for long enough."""
        if switch.switched_at is None:
            return
        now = self._clock.now()
        if now >= switch.switched_at + self._own.keep_days * _SECONDS_PER_DAY:
            if await self._database.read(partial(model_switches.count_lacking, switch=switch)):
                return  # `retire` says why, if an operator orders it
            await self._database.write(partial(orders.retire, tenant=switch.tenant, now=now))

    async def _retire(self, switch: ModelSwitch) -> None:
        if not await retiring.retire_some(self._database, switch, self._clock.now()):
            return
        receipt = await retiring.finish(self._database, self._store, switch)
        await self._enter(switch, SwitchPhase.ENDED, receipt={**receipt, "at": self._clock.now()})

    async def _enter(self, switch: ModelSwitch, phase: SwitchPhase, **found: object) -> None:
        now = self._clock.now()
        if await self._database.write(lambda conn: model_switches.enter(conn, switch, phase, now, **found)):
            logger.bind(tenant=switch.tenant).info(
                "the switch to model {} is {}", switch.to_collection.model, phase
            )


def _in_turn(running: Sequence[ModelSwitch], most_tenants: int) -> list[ModelSwitch]:
    """Return the switches to carry on: of those that are filled or emptied, the oldest few."""
    busy = (SwitchPhase.FILLING, SwitchPhase.CHECKING, SwitchPhase.RETIRING)
    working = [one for one in running if one.phase in busy and not one.paused][:most_tenants]
    return working + [one for one in running if one.phase not in busy]


def _open(conn: Connection, switch: ModelSwitch, now: float) -> bool:
    """Have the new space answer its share of queries, if no document is lacking at this very moment.

    Returns whether it does. The units that complete jobs are waited for: a document that one of them shows in
    the old space alone would be missing in the answers.
    """
    model_switches.wait_for_completions(conn)
    present = model_switches.lock(conn, switch.switch_id)
    if present is None or present.phase is not SwitchPhase.CHECKING:
        return False
    if model_switches.lacking(conn, present, limit=1, begun=present.forced):
        return False
    percent = present.wanted_percent
    model_switches.enter(conn, present, SwitchPhase.SERVING, now)
    model_switches.change(conn, present, percent=percent, switched_at=now if percent >= 100 else None)
    return True
