"""Asks both spaces of a switch the tenant's own questions, and measures the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sqlalchemy import Connection

from embedfleet.errors import ModelError, ModelUnavailable, one_line
from embedfleet.evaluation.intervals import paired_interval
from embedfleet.evaluation.known_items import draw
from embedfleet.evaluation.questions import Passage, Question
from embedfleet.evaluation.rankings import overlap_at
from embedfleet.model_switching.arm_asking import ArmAsking
from embedfleet.model_switching.gate import Answers, AskedQuestion, Measured
from embedfleet.model_switching.giving_way import GivingWay
from embedfleet.records import arm_sizes, headings, identity
from embedfleet.records.arms import Arm
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.settings import GateSettings
from embedfleet.sql.database import Database

# The titles and headings of these chunks give hundreds of questions, and are read in about a second.
_MOST_CHUNKS = 50_000
_WORST = 10


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a space answered: the passages, the place of the right one from 1 (None: not there), the time."""

    passages: Sequence[Passage]
    rank: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Pair:
    """The answers of both spaces to one question."""

    question: Question
    old: _Answer
    new: _Answer
    overlap: float


class TenantQuestions:
    """The gate's questions, asked in the process that owns the vector store. A `Gate`."""

    def __init__(
        self, database: Database, asking: ArmAsking, settings: GateSettings, giving_way: GivingWay
    ) -> None:
        self._database = database
        self._giving_way = giving_way
        self._settings = settings
        self._asking = asking

    async def ask(self, switch: ModelSwitch) -> Answers | None:
        known = await self._database.read(
            partial(headings.of_arm, tenant=switch.tenant, arm=switch.old, most_chunks=_MOST_CHUNKS)
        )
        # Another seed for each switch, so that no two ask the same; the same one if the process dies.
        questions = draw(known, self._settings.questions, seed=switch.switch_id).questions
        if not questions:
            return None
        await self._warm(questions[0].text, switch)
        pairs = [await self._pair(question, switch) for question in questions]
        old, new = await self._database.read(partial(_bytes_of, arms=(switch.old, switch.new)))
        return Answers(self._measured(pairs, old, new), _worst(pairs, switch.tenant))

    async def _warm(self, text: str, switch: ModelSwitch) -> None:
        """Load all models and open all spaces, so that the first question is not slower than the others.

        The new model first: without it the gate must not be passed, so it is waited for in any case.
        """
        question = Question("", text, ())
        await self._answer(question, switch.tenant, switch.new)
        try:
            await self._answer(question, switch.tenant, switch.old)
        except ModelUnavailable as exc:
            if not switch.forced:
                raise
            # The model that is left may never come back, and the order is to go on without what it shows.
            raise ModelError(
                f"the space of `{switch.old.name}` cannot be asked: {one_line(exc)}", remedy=exc.remedy
            ) from exc

    async def _pair(self, question: Question, switch: ModelSwitch) -> _Pair:
        before = await self._answer(question, switch.tenant, switch.old)
        after = await self._answer(question, switch.tenant, switch.new)
        overlap = overlap_at(self._settings.k, before.passages, after.passages)
        await self._giving_way.rest_after(before.seconds + after.seconds)
        return _Pair(question, before, after, overlap)

    async def _answer(self, question: Question, tenant: str, arm: Arm) -> _Answer:
        found = await self._asking.ask(tenant, arm, question.text, most=self._settings.k)
        ranks = (
            place
            for place, passage in enumerate(found.passages, start=1)
            if any(answer.is_met_by(passage) for answer in question.answers)
        )
        return _Answer(found.passages, next(ranks, None), found.seconds)

    def _measured(self, pairs: Sequence[_Pair], old_bytes: int, new_bytes: int) -> Measured:
        old_found = np.array([pair.old.rank is not None for pair in pairs], dtype=float)
        new_found = np.array([pair.new.rank is not None for pair in pairs], dtype=float)
        difference = paired_interval(new_found - old_found)
        return Measured(
            questions=len(pairs),
            k=self._settings.k,
            old_recall=float(old_found.mean()),
            new_recall=float(new_found.mean()),
            difference_low=difference.low,
            difference_high=difference.high,
            overlap=float(np.mean([pair.overlap for pair in pairs])),
            old_p95_seconds=_p95([pair.old.seconds for pair in pairs]),
            new_p95_seconds=_p95([pair.new.seconds for pair in pairs]),
            old_bytes=old_bytes,
            new_bytes=new_bytes,
        )


def _bytes_of(conn: Connection, arms: Sequence[Arm]) -> list[int]:
    return [arm_sizes.size_of(conn, arm).bytes_per_vector for arm in arms]


def _p95(seconds: Sequence[float]) -> float:
    return float(np.percentile(seconds, 95))


def _worst(pairs: Sequence[_Pair], tenant: str) -> list[AskedQuestion]:
    asked = [
        AskedQuestion(
            document_id=identity.document_id(tenant, answer.document),
            is_title=answer.span is None,
            start=0 if answer.span is None else answer.span[0],
            old_rank=pair.old.rank,
            new_rank=pair.new.rank,
            overlap=pair.overlap,
        )
        for pair in pairs
        for answer in pair.question.answers[:1]
    ]
    return sorted(asked, key=lambda one: one.badness, reverse=True)[:_WORST]
