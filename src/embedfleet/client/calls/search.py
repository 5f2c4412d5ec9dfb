"""Search: the nearest passages, after what was just submitted can be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedfleet.client.calls.reading import document, record
from embedfleet.client.steps import Ask, Steps
from embedfleet.positions import MissingJob
from embedfleet.queue_schemas import Feedback, SearchHits

if TYPE_CHECKING:  # it loads what embeds queries, which a client never does
    from embedfleet.searching.search import SearchRequest


class Hits(SearchHits):
    """The hits of a search. `missing`: jobs of the position that have ended, and are not all found."""

    missing: Sequence[MissingJob] = ()


def search(
    request: SearchRequest | str, *, after: str | None = None, timeout_seconds: float = 10.0
) -> Steps[Hits]:
    """Return the passages nearest to a query, nearest first. A text is a request without other wishes.

    `after` is the position of a submission, such as a job's id: the search waits until all of it can be
    found. Raises Transient, which names what is missing and why, if that takes longer than the timeout.
    Raises InvalidRequest, UnknownModel.
    """
    body = {"query": request} if isinstance(request, str) else document(request)
    wait = {} if after is None else {"after": after, "timeout": timeout_seconds}
    response = yield Ask(
        "POST",
        "/v1/search",
        params=wait,
        json=body,
        repeats=True,
        waits_itself=after is not None,
        patience_seconds=timeout_seconds,
    )
    answer = response.json()
    hits = Hits.of_json(answer)
    assert isinstance(hits, Hits)
    hits.missing = [MissingJob.model_validate(one, extra="ignore") for one in answer.get("missing", ())]
    return hits


def feedback(impression_id: str, clicked: Sequence[str | int]) -> Steps[Feedback]:
    """Say what was clicked in an answer: ids of its chunks, or places in it, from 0.

    `SearchHits.impression_id` names the answer. Raises UnknownImpression, also for an answer that was shown
    too long ago, and InvalidRequest for what is not in it.
    """
    body = {"impression_id": impression_id, "clicked": list(clicked)}
    return record(Feedback, (yield Ask("POST", "/v1/feedback", json=body, repeats=True)))
