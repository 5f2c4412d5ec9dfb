"""Order, bounded preference and closing of a model's inbox."""

from __future__ import annotations

import threading

import numpy as np

from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.inbox import INTERACTIVE_BURST, Inbox, Microbatch
from support.hangs import HANG_SECONDS


def microbatch() -> Microbatch:
    return Microbatch(TokenBatch(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.int64)))


def test_interactive_work_overtakes_bulk_and_each_keeps_its_order() -> None:
    inbox = Inbox()
    work = [microbatch() for _ in range(4)]
    for item, interactive in zip(work, (False, False, True, True), strict=True):
        inbox.put(item, interactive=interactive)
    assert [inbox.take() for _ in work] == [work[2], work[3], work[0], work[1]]


def test_a_flood_of_queries_lets_one_bulk_microbatch_pass_each_burst() -> None:
    inbox = Inbox()
    bulk = [microbatch() for _ in range(2)]
    for item in bulk:
        inbox.put(item, interactive=False)
    for _ in range(2 * INTERACTIVE_BURST):
        inbox.put(microbatch(), interactive=True)
    taken = [inbox.take() for _ in range(2 * INTERACTIVE_BURST + 2)]
    assert [i for i, item in enumerate(taken) if item in bulk] == [
        INTERACTIVE_BURST,
        2 * INTERACTIVE_BURST + 1,
    ]


def test_queries_served_while_no_bulk_waited_are_not_held_against_the_next() -> None:
    inbox = Inbox()
    for _ in range(INTERACTIVE_BURST + 1):
        inbox.put(microbatch(), interactive=True)
        inbox.take()
    query, bulk = microbatch(), microbatch()
    inbox.put(bulk, interactive=False)
    inbox.put(query, interactive=True)
    assert inbox.take() is query


def test_closing_hands_over_what_waited_and_refuses_more() -> None:
    inbox = Inbox()
    bulk, query = microbatch(), microbatch()
    inbox.put(bulk, interactive=False)
    inbox.put(query, interactive=True)
    assert inbox.close() == [query, bulk]
    assert inbox.take() is None
    assert not inbox.put(microbatch(), interactive=False)
    assert inbox.close() == []


def test_closing_wakes_a_taker_that_waits() -> None:
    inbox = Inbox()
    taken: list[Microbatch | None] = []
    taker = threading.Thread(target=lambda: taken.append(inbox.take()))
    taker.start()
    inbox.close()
    taker.join(timeout=HANG_SECONDS)
    assert taken == [None]
