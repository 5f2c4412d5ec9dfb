"""Makes the questions of an experiment: from titles and headings, from a request, or from the query log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from embedfleet.evaluation.known_items import KnownItems, draw
from embedfleet.evaluation.questions import Answer
from embedfleet.experiments.schemas import MOST_QUESTIONS, ExperimentRequest
from embedfleet.records import documents, headings, identity, impressions
from embedfleet.records.arms import Arm
from embedfleet.records.experiment_questions import NewQuestion
from embedfleet.routing.language import language_of
from embedfleet.sql.database import Database
from embedfleet.sql.states import QuestionSource

# The titles and headings of these chunks give thousands of questions, and are read in about a second.
_MOST_CHUNKS = 50_000
# The detector is seldom right about a question of a few words, and says so.
_SURE = 0.8


@dataclass(frozen=True, slots=True)
class Drawn:
    """The questions in the order in which they are asked, which is random.

    `left_out` is how many could not be taken, by reason.
    """

    questions: Sequence[NewQuestion]
    left_out: dict[str, int] = field(default_factory=dict)


async def drawn(
    database: Database, request: ExperimentRequest, own: Arm, *, seed: int, since: float
) -> Drawn:
    """Draw the questions of an experiment. The same seed gives the same order.

    `own` is the arm that the tenant has. `since`: searches of before are not taken.
    """
    match request.source:
        case QuestionSource.KNOWN_ITEMS:
            found = await _known_items(database, request.tenant, own, seed)
        case QuestionSource.LABELLED:
            found = await _labelled(database, request)
        case QuestionSource.QUERY_LOG:
            found = await _logged(database, request, since)
        case QuestionSource.CLICKS:
            return Drawn(())
    questions = list(found.questions)
    Random(seed).shuffle(questions)
    return Drawn(questions[:MOST_QUESTIONS], found.left_out)


async def _known_items(database: Database, tenant: str, own: Arm, seed: int) -> Drawn:
    known = await database.read(partial(headings.of_arm, tenant=tenant, arm=own, most_chunks=_MOST_CHUNKS))
    items: KnownItems = await asyncio.to_thread(draw, known, MOST_QUESTIONS, seed=seed)
    languages = await asyncio.to_thread(lambda: [_sure_language(one.text) for one in items.questions])
    questions = [
        NewQuestion(
            [_by_id(tenant, answer) for answer in one.answers],
            document_id=identity.document_id(tenant, one.answers[0].document),
            is_title=one.answers[0].span is None,
            start=0 if one.answers[0].span is None else one.answers[0].span[0],
            language=language,
            content_type=one.content_type,
        )
        for one, language in zip(items.questions, languages, strict=True)
    ]
    return Drawn(questions, {reason.value: number for reason, number in items.left_out.items()})


async def _labelled(database: Database, request: ExperimentRequest) -> Drawn:
    """Leave out the answers that are no documents of the tenant, and questions without another answer."""
    tenant = request.tenant
    ids = {
        answer.media_id: identity.document_id(tenant, answer.media_id)
        for one in request.questions
        for answer in one.answers
    }
    there = await database.read(partial(documents.existing_among, document_ids=list(ids.values())))
    languages = await asyncio.to_thread(lambda: [_sure_language(one.text) for one in request.questions])
    questions = []
    for one, language in zip(request.questions, languages, strict=True):
        answers = [
            Answer(ids[answer.media_id], gain=answer.gain)
            for answer in one.answers
            if ids[answer.media_id] in there
        ]
        if answers:
            questions.append(NewQuestion(answers, text=one.text, language=language))
    missing = len(request.questions) - len(questions)
    return Drawn(questions, {"no_answer_in_the_documents": missing} if missing else {})


async def _logged(database: Database, request: ExperimentRequest, since: float) -> Drawn:
    """Take each text that was searched once, with what was clicked as its right answers."""
    found = await database.read(partial(impressions.logged, tenant=request.tenant, since=since))
    by_text: dict[str, NewQuestion] = {}
    for one in found:  # the newest first
        key = " ".join(one.query.split()).casefold()
        if key not in by_text or (one.clicked and not by_text[key].answers):
            by_text[key] = NewQuestion(one.clicked, impression_id=one.impression_id)
    repeated = len(found) - len(by_text)
    left_out = {"repeated": repeated} if repeated else {}
    questions = list(by_text.values())
    if not request.metric.startswith("overlap"):
        questions = [one for one in questions if one.answers]
        if len(questions) < len(by_text):
            left_out["without_a_click"] = len(by_text) - len(questions)
    return Drawn(questions, left_out)


def _by_id(tenant: str, answer: Answer) -> Answer:
    return Answer(identity.document_id(tenant, answer.document), answer.span, answer.gain)


def _sure_language(text: str) -> str:
    found = language_of(text)
    return found.code or "" if found.confidence >= _SURE else ""
