"""Takes the switches to other models from phase to phase. All that it knows is in SQL (ADR 34)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

from loguru import logger
from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import DatabaseUnavailable, EmbedfleetError, InputError, Permanent, one_line
from embedfleet.lifecycle.completion import publish_done
from embedfleet.model_switching import orders, retiring
from embedfleet.model_switching.backfill import Backfill
from embedfleet.model_switching.coverage import Coverage, read_coverage
from embedfleet.model_switching.gate import Answers, Gate, as_findings, judge
from embedfleet.model_switching.giving_way import GivingWay
from embedfleet.model_switching.held_twins import HeldTwins
from embedfleet.model_switching.hold_ups import HoldUps
from embedfleet.model_switching.standing import kept_until
from embedfleet.queue_schemas import UserTier
from embedfleet.records import job_completion, jobs, model_switches, switch_gaps, switch_questions
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.repair.true_vectors import TrueVectors
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase
from embedfleet.vectors.port import VectorStore

_LOCK = "model_switches"
# The number of jobs that waited for another one and are ended in one unit.
_MOST_RELEASED = 500
# To find that an old space cannot be retired, all of its documents are looked through.
_KEPT_ON_SECONDS = 60.0


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
        giving_way: GivingWay,
        hold_ups: HoldUps,
    ) -> None:
        self._database = database
        self._store = store
        self._gate = gate
        self._truth = truth
        self._clock = clock
        self._settings = settings
        self._own = settings.model_switching
        self._giving_way = giving_way
        self._hold_ups = hold_ups
        # The switches whose old space could not be retired in time, and when each is looked at again.
        self._kept_on_until: dict[int, float] = {}
        self._backfill = Backfill(
            database,
            clock,
            most_jobs=self._own.most_jobs,
            default_tier=UserTier(settings.tenants.default_tier),
        )

    @property
    def held_twins(self) -> HeldTwins:
        """Which twins are not offered yet, as searches are given way to."""
        return self._giving_way.held

    async def step(self) -> None:
        """Take every switch that is under way as far as it goes now. Without one, do nothing."""
        if not await self._database.read(model_switches.any_running):
            self._giving_way.no_switch()
            self._backfill.forget_but(())
            return
        async with self._database.sole(_LOCK) as sole:
            if sole is None:
                return
            await self._release()
            failures: list[EmbedfleetError] = []
            running = await self._carried_on()
            put_off = await self._hold_ups.reasons()
            share = await self._giving_way.allowed(running)
            for switch in running:
                await sole.require()
                waits_for = put_off.get(switch.switch_id)
                try:
                    await self._take(switch, share)
                except DatabaseUnavailable:
                    raise
                except EmbedfleetError as exc:
                    # It must not hold up the others. It is tried again with the next step.
                    waits_for = one_line(exc)
                    logger.bind(tenant=switch.tenant).debug("the switch goes on later: {}", waits_for)
                    failures.append(exc)
                await self._hold_ups.tell(switch, waits_for)
            if share:
                running = await self._carried_on()
                self._giving_way.begun(running)
                await self._tell_pace(running)
            if failures:
                raise failures[0]

    async def _carried_on(self) -> list[ModelSwitch]:
        """Return the switches that this step carries on. Of a campaign, a few at a time are filled."""
        running = await self._database.read(model_switches.running)
        self._backfill.forget_but(running)
        return _in_turn(running, self._own.most_tenants)

    async def _tell_pace(self, running: Sequence[ModelSwitch]) -> None:
        """Keep with each switch that is filled how many documents are begun at a time beside searches."""
        share = self._giving_way.share
        for switch in running:
            if switch.phase is not SwitchPhase.FILLING or switch.paused:
                continue
            jobs_at_a_time = None if share is None else self._backfill.jobs_of_share(switch, share)
            told = switch.findings.get("pace")
            if jobs_at_a_time != (None if told is None else told["jobs"]):
                pace = None if jobs_at_a_time is None else {"jobs": jobs_at_a_time}
                await self._database.write(partial(_keep_pace, switch_id=switch.switch_id, pace=pace))

    async def _release(self) -> None:
        """End jobs that waited for another one which has failed, was cancelled, or takes too long."""
        now = self._clock.now()

        def release(conn: Connection) -> None:
            done = job_completion.released(conn, now, _MOST_RELEASED)
            publish_done(conn, list(jobs.lock_many(conn, done).values()), now)

        if await self._database.read(partial(job_completion.released, now=now, most=1)):
            await self._database.write(release)

    async def _take(self, switch: ModelSwitch, share: float) -> None:
        match switch.phase:
            case SwitchPhase.FILLING:
                if switch.is_trial:
                    # It stays here, where no submission waits for its twin, until it is promoted.
                    await self._backfill.fill_at_times(switch, share)
                elif await self._backfill.fill(switch, share):
                    await self._enter(switch, SwitchPhase.CHECKING)
            case SwitchPhase.CHECKING:
                if await self._backfill.fill(switch, share) and await self._is_complete(switch):
                    await self._check(switch)
            case SwitchPhase.REFUSED:
                await self._backfill.fill_at_times(switch, share)
            case SwitchPhase.SERVING:
                await self._backfill.fill_at_times(switch, share)
                await self._retire_in_time(switch)
            case SwitchPhase.RETIRING:
                await self._retire(switch, share)
            case _:
                return

    async def _is_complete(self, switch: ModelSwitch) -> bool:
        """Whether the new space has all that it will have: what is lacking is given up."""
        return not await self._database.read(partial(_is_lacking, switch=switch))

    async def _check(self, switch: ModelSwitch) -> None:
        """Read the new space back and ask it. Then its share of the queries is served, or it is refused."""
        if not await self._has_passed(switch):
            switch = await self._judged(switch)
        if switch.phase is not SwitchPhase.CHECKING:
            return
        # So that each unit that began before the phase `checking` has ended. The others note what they leave
        # lacking, and then what is looked up here does not count.
        await self._database.write(model_switches.wait_for_completions)
        looked = await self._database.read(partial(_complete_at, switch=switch))
        if looked is None:
            return
        now = self._clock.now()
        if await self._database.write(partial(_open, switch=switch, looked=looked, now=now)):
            logger.bind(tenant=switch.tenant).info(
                "{} % of the queries are answered with model {} now",
                f"{switch.wanted_percent:g}",
                switch.to_collection.model,
            )

    async def _has_passed(self, switch: ModelSwitch) -> bool:
        """Whether the gate was passed, and no document was given up since."""
        if not switch.findings.get("gate", {}).get("passed"):
            return False
        return await self._database.read(partial(_is_content_with_gaps, switch=switch))

    async def _judged(self, switch: ModelSwitch) -> ModelSwitch:
        answers: Answers | None = None
        found: Coverage | None = None
        try:
            with self._giving_way.asking():
                found = await read_coverage(self._database, self._store, self._truth, switch)
                answers = await self._gate.ask(switch)
            reasons = list(judge(answers, self._own.gate))
        except (InputError, Permanent) as exc:
            reasons = [one_line(exc)]
        if found is not None and found.fault is not None:
            reasons.insert(0, found.fault)
        now = self._clock.now()
        coverage = None if found is None else found.json_document()

        def record(conn: Connection) -> ModelSwitch:
            present = model_switches.lock(conn, switch.switch_id)
            if present is None or present.phase is not SwitchPhase.CHECKING:
                return present or switch
            switch_questions.replace(conn, present, () if answers is None else answers.worst)
            # As the switch is now: it may have been forced while the gate asked.
            passed = not reasons or present.forced
            phase = SwitchPhase.CHECKING if passed else SwitchPhase.REFUSED
            gate = {**as_findings(answers, reasons), "passed": passed, "at": now}
            model_switches.enter(conn, present, phase, now, gate=gate, coverage=coverage)
            again = model_switches.get(conn, switch.switch_id)
            assert again is not None
            return again

        judged = await self._database.write(record)
        if reasons:
            logger.bind(tenant=switch.tenant).warning(
                "the gate {} the switch to model {}: {}",
                "refuses" if judged.phase is SwitchPhase.REFUSED else "would refuse, but does not,",
                switch.to_collection.model,
                "; ".join(reasons),
            )
        return judged

    async def _retire_in_time(self, switch: ModelSwitch) -> None:
        """Retire the old space by itself when it was kept for long enough.

        As long as documents are only, or are newer, in the old space, it is kept: an operator who orders to
        retire it is told why.
        """
        until = kept_until(switch, self._own.keep_days)
        now = self._clock.now()
        if until is None or now < until or monotonic() < self._kept_on_until.get(switch.switch_id, 0.0):
            return
        if await self._database.read(partial(model_switches.stranded, switch=switch)):
            self._kept_on_until[switch.switch_id] = monotonic() + _KEPT_ON_SECONDS
            return
        await self._database.write(partial(orders.retire, tenant=switch.tenant, now=now))

    async def _retire(self, switch: ModelSwitch, share: float) -> None:
        copied = await self._backfill.fill(switch, share)
        await retiring.settle_all(self._database, switch, self._clock.now())
        if not copied:
            return
        receipt = await retiring.finish(self._database, self._store, switch)
        if receipt is not None:
            await self._enter(switch, SwitchPhase.ENDED, receipt={**receipt, "at": self._clock.now()})

    async def _enter(self, switch: ModelSwitch, phase: SwitchPhase, **found: Any) -> None:
        now = self._clock.now()
        if await self._database.write(
            partial(model_switches.enter, switch=switch, phase=phase, now=now, **found)
        ):
            logger.bind(tenant=switch.tenant).info(
                "the switch to model {} is {}", switch.to_collection.model, phase
            )


def _in_turn(running: Sequence[ModelSwitch], most_tenants: int) -> list[ModelSwitch]:
    """Return the switches to carry on: of those that are filled or emptied, the oldest few."""
    working = [one for one in running if _takes_a_turn(one) and not one.paused][:most_tenants]
    return working + [one for one in running if not _takes_a_turn(one)]


def _takes_a_turn(switch: ModelSwitch) -> bool:
    """Whether the switch leaves its phase when its work is done.

    A trial is filled until its experiment ends, which takes days: it would keep others from their turns.
    """
    busy = (SwitchPhase.FILLING, SwitchPhase.CHECKING, SwitchPhase.RETIRING)
    return switch.phase in busy and not (switch.is_trial and switch.phase is SwitchPhase.FILLING)


def _keep_pace(conn: Connection, switch_id: int, pace: Mapping[str, Any] | None) -> None:
    present = model_switches.lock(conn, switch_id)
    if present is not None and present.phase is SwitchPhase.FILLING:
        model_switches.change(conn, present, findings={"pace": pace})


def _complete_at(conn: Connection, switch: ModelSwitch) -> int | None:
    """Look through the documents. Return how many divergences were noted before; None if one is lacking."""
    present = model_switches.get(conn, switch.switch_id)
    if present is None or present.phase is not SwitchPhase.CHECKING:
        return None
    if _is_lacking(conn, present) or not _is_content_with_gaps(conn, present):
        return None
    return present.divergences


def _open(conn: Connection, switch: ModelSwitch, looked: int, now: float) -> bool:
    """Have the new space answer its share of queries, if no document is lacking at this very moment.

    Returns whether it does. `looked`: what `_complete_at` has returned. The units that complete jobs are
    waited for: a document that one of them shows in the old space alone would be missing in the answers. They
    wait for this unit, so it does not look through the documents again: if one was shown so since, there is a
    divergence more.
    """
    model_switches.wait_for_completions(conn)
    present = model_switches.lock(conn, switch.switch_id)
    if present is None or present.phase is not SwitchPhase.CHECKING or present.divergences != looked:
        return False
    if switch_gaps.any_unpaired(conn, present.switch_id, present.paired):
        return False
    percent = present.wanted_percent
    model_switches.enter(conn, present, SwitchPhase.SERVING, now)
    model_switches.change(conn, present, percent=percent, switched_at=now if percent >= 100 else None)
    return True


def _is_lacking(conn: Connection, switch: ModelSwitch) -> bool:
    """Whether the new space lacks a document that it is to have, or may lack one when its job ends."""
    if any(switch_gaps.any_open(conn, way) for way in switch.ways):
        return True
    return switch_gaps.any_unpaired(conn, switch.switch_id, switch.paired)


def _is_content_with_gaps(conn: Connection, switch: ModelSwitch) -> bool:
    """Whether no document was given up, or the switch is forced to pass without those."""
    return switch.forced or not any(switch_gaps.any_given_up(conn, way) for way in switch.ways)
