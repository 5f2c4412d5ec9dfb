"""What a model's runner promises its callers, whatever the model or the callers do."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from embedfleet.errors import (
    InvalidRequest,
    LeaseLost,
    ModelError,
    ModelStuck,
    ModelUnavailable,
    Transient,
    UnknownModel,
)
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.runner import ModelRunner
from support.hangs import HANG_SECONDS
from unit.inference.conftest import ScriptedBackend

pytestmark = pytest.mark.usefixtures("nothing_blocks_the_event_loop", "no_thread_is_left")

Texts = Callable[..., TokenBatch]
ONE_TEXT = 8  # tokens: a budget of one text of `texts` a micro-batch


@pytest.fixture
async def runner(backend: Any) -> AsyncIterator[ModelRunner]:
    """Started, one text a micro-batch, its warm-up forgotten."""
    runner = ModelRunner([lambda: backend], microbatch_tokens=ONE_TEXT)
    await runner.start()
    forget_calls(backend)
    yield runner
    backend.gate.set()
    await runner.close()


def forget_calls(backend: Any) -> None:
    backend.calls.clear()
    while backend.entered.acquire(blocking=False):
        pass


async def entered(backend: Any) -> None:
    """Wait until the model is inside a call."""
    await asyncio.to_thread(backend.entered.acquire)


async def settled() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- embedding ------------------------------------------------------------------------------------


async def test_row_i_is_text_i_however_the_texts_were_grouped(backend: Any, texts: Texts) -> None:
    runner = ModelRunner([lambda: backend], microbatch_tokens=40)
    await runner.start()
    long, short = texts(1, 2, length=20), texts(3, 4, 5, length=3)
    order = [2, 0, 3, 1, 4]
    both = TokenBatch(
        np.concatenate([long.token_ids, short.token_ids]), np.concatenate([long.lengths, short.lengths])
    ).take(np.array(order))
    outcome = await runner.embed(both)
    assert outcome.vectors[:, 0].tolist() == [3, 1, 4, 2, 5]
    await runner.close()


async def test_no_texts_give_no_rows_and_no_call(runner: ModelRunner, backend: Any, texts: Texts) -> None:
    outcome = await runner.embed(texts())
    assert outcome.vectors.shape == (0, runner.info.dim)
    assert backend.calls == []


async def test_the_model_is_loaded_run_and_closed_on_one_thread_of_its_own(
    backend: Any, texts: Texts
) -> None:
    opened_on: list[int] = []

    def open_backend() -> Any:
        opened_on.append(threading.get_ident())
        return backend

    runner = ModelRunner([open_backend], microbatch_tokens=ONE_TEXT)
    await runner.start()
    await asyncio.gather(*(runner.embed(texts(n, n + 1)) for n in range(20, 30)))
    await runner.close()
    assert {*opened_on} == backend.threads
    assert threading.get_ident() not in backend.threads
    assert backend.closed


async def test_a_batch_whose_arrays_disagree_is_refused(runner: ModelRunner, texts: Texts) -> None:
    batch = texts(1, 2)
    with pytest.raises(InvalidRequest, match="lengths sum to 8, there are 16 ids"):
        await runner.embed(TokenBatch(batch.token_ids, batch.lengths[:1]))


async def test_the_next_microbatch_waits_at_the_door_while_one_runs(
    runner: ModelRunner, backend: Any, texts: Texts
) -> None:
    """The model finds it there even if the event loop never gets a turn."""
    backend.gate.clear()
    embedding = asyncio.create_task(runner.embed(texts(1, 2, 3)))
    await entered(backend)
    await settled()
    backend.gate.set()
    # The loop is kept busy from here on: only what was prefetched can enter the model.
    assert backend.entered.acquire(timeout=HANG_SECONDS)
    assert len(backend.calls) == 2
    assert len((await embedding).vectors) == 3


async def test_a_call_has_no_more_texts_than_the_model_says(backend: Any, texts: Texts) -> None:
    backend.info = replace(backend.info, texts_per_call=3)
    runner = ModelRunner([lambda: backend], microbatch_tokens=10_000)
    await runner.start()
    forget_calls(backend)
    await runner.embed(texts(*range(20, 28)))
    assert [len(call) for call in backend.calls] == [3, 3, 2]
    await runner.close()


# --- failures -------------------------------------------------------------------------------------


async def test_a_poisonous_text_is_named_and_its_neighbours_get_vectors(backend: Any, texts: Texts) -> None:
    runner = ModelRunner([lambda: backend], microbatch_tokens=24)
    await runner.start()
    outcome = await runner.embed(texts(1, 2, 13, 4, 5, 666, 7))
    assert set(outcome.failed) == {2, 5}
    assert outcome.vectors[:, 0].tolist() == [1, 2, 0, 4, 5, 0, 7]
    await runner.close()


async def test_a_model_that_breaks_its_thread_strands_no_caller(
    runner: ModelRunner, backend: Any, texts: Texts
) -> None:
    """infinity's bug: the thread is gone, the callers wait for ever."""
    escaped: list[Any] = []
    threading.excepthook, original = escaped.append, threading.excepthook
    try:
        backend.gate.clear()
        breaking = asyncio.create_task(runner.embed(texts(99, 1)))
        await entered(backend)
        waiting = asyncio.create_task(runner.embed(texts(2, 3)))
        await settled()
        backend.gate.set()
        results = await asyncio.gather(breaking, waiting, return_exceptions=True)
        await runner.close()
    finally:
        threading.excepthook = original
    assert [type(result) for result in results] == [Transient, Transient]
    assert len(escaped) == 1
    with pytest.raises(Transient):
        await runner.embed(texts(4))


async def test_a_model_that_does_not_come_back_strands_no_caller(
    backend: Any, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing counts as late before the test says so.
    now = [-math.inf]
    monkeypatch.setattr("embedfleet.inference.runner.monotonic", lambda: now[0])
    runner = ModelRunner([lambda: backend], microbatch_tokens=ONE_TEXT, stuck_after_seconds=0.01)
    await runner.start()
    assert not runner.broken
    forget_calls(backend)
    backend.gate.clear()
    calls = [asyncio.create_task(runner.embed(some)) for some in (texts(1, 2, 3), texts(4))]
    await entered(backend)
    now[0] = math.inf
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ModelStuck, ModelStuck]
    assert runner.broken
    await runner.close()  # does not wait for the thread
    backend.gate.set()  # the call comes back after all: nobody minds, and the thread ends
    await asyncio.to_thread(runner._replicas[0]._thread.join, HANG_SECONDS)
    assert backend.closed


async def test_memory_that_runs_out_halves_the_budget_for_good(backend: Any, texts: Texts) -> None:
    runner = ModelRunner([lambda: backend], microbatch_tokens=64)
    await runner.start()
    forget_calls(backend)
    backend.memory_tokens = 32
    outcome = await runner.embed(texts(*range(20, 28)))
    assert outcome.vectors[:, 0].tolist() == list(range(20, 28))
    backend.calls.clear()
    await runner.embed(texts(*range(20, 28)))
    assert [len(call) for call in backend.calls] == [4, 4]
    await runner.close()


async def test_a_failing_load_is_raised_and_leaves_no_thread() -> None:
    def open_backend() -> Any:
        raise UnknownModel("no model `x`")

    runner = ModelRunner([open_backend], microbatch_tokens=ONE_TEXT)
    with pytest.raises(UnknownModel, match="no model `x`"):
        await runner.start()
    await runner.close()


async def test_a_load_that_fails_for_any_reason_is_a_model_error() -> None:
    def open_backend() -> Any:
        raise OSError("disk gone")

    runner = ModelRunner([open_backend], microbatch_tokens=ONE_TEXT)
    with pytest.raises(ModelError, match="disk gone"):
        await runner.start()
    await runner.close()


async def test_a_model_that_loads_but_cannot_run_is_closed_again(backend: Any) -> None:
    backend.memory_tokens = 1
    runner = ModelRunner([lambda: backend], microbatch_tokens=ONE_TEXT)
    with pytest.raises(ModelError, match="too much at once"):
        await runner.start()
    await runner.close()
    assert backend.closed


async def test_a_start_that_is_cancelled_can_still_be_closed(backend: Any) -> None:
    backend.gate.clear()
    runner = ModelRunner([lambda: backend], microbatch_tokens=ONE_TEXT)
    starting = asyncio.create_task(runner.start())
    await entered(backend)  # inside the warm-up
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    backend.gate.set()
    await runner.close()
    assert backend.closed


async def test_what_was_embedded_before_the_model_was_gone_is_not_lost(backend: Any, texts: Texts) -> None:
    """A server may have been paid for it."""
    backend.info = replace(backend.info, pads=False)  # texts come in their order
    runner = ModelRunner([lambda: backend], microbatch_tokens=ONE_TEXT)
    await runner.start()
    forget_calls(backend)
    healthy = backend.embed_tokens

    def embed_tokens(batch: TokenBatch) -> Any:
        if len(backend.calls) == 2:
            raise ModelUnavailable("gone", retry_after_seconds=7)
        return healthy(batch)

    backend.embed_tokens = embed_tokens
    arrived: dict[int, float] = {}

    def on_part(positions: Any, result: Any) -> None:
        arrived.update(zip(positions.tolist(), result.vectors[:, 0].tolist(), strict=True))

    with pytest.raises(ModelUnavailable, match="gone") as told:
        await runner.embed(texts(1, 13, 3, 4, 5, 6, 7, 8), on_part=on_part)
    assert told.value.retry_after_seconds == 7
    assert arrived == {0: 1, 1: 0}
    with pytest.raises(ModelUnavailable):
        await runner.embed(texts(1))
    await runner.close()


# --- priority, stopping, closing ------------------------------------------------------------------


async def test_an_interactive_text_waits_only_for_the_running_microbatch(
    runner: ModelRunner, backend: Any, texts: Texts
) -> None:
    backend.gate.clear()
    bulk = asyncio.create_task(runner.embed(texts(1, 2, 3)))
    await entered(backend)
    await settled()
    query = asyncio.create_task(runner.embed(texts(50), interactive=True))
    await settled()
    running = backend.calls[0]
    backend.gate.set()
    await asyncio.gather(bulk, query)
    assert backend.calls[:2] == [running, [50]]


async def test_calls_side_by_side_share_the_model(runner: ModelRunner, backend: Any, texts: Texts) -> None:
    """A small document is not stuck behind the whole of a large one."""
    backend.gate.clear()
    large = asyncio.create_task(runner.embed(texts(*range(100, 120))))
    await entered(backend)
    await settled()
    small = asyncio.create_task(runner.embed(texts(50)))
    await settled()
    backend.gate.set()
    await asyncio.gather(large, small)
    assert backend.calls.index([50]) == 2  # after the running one and the one prefetched


async def test_a_job_cancelled_midway_stops_at_the_next_microbatch(
    runner: ModelRunner, backend: Any, texts: Texts
) -> None:
    cancelled = False
    backend.gate.clear()
    embedding = asyncio.create_task(runner.embed(texts(*range(100, 110)), should_stop=lambda: cancelled))
    await entered(backend)
    await settled()
    cancelled = True
    backend.gate.set()
    with pytest.raises(LeaseLost):
        await embedding
    await runner.embed(texts(50))  # whatever was at the door has passed
    assert len(backend.calls) <= 3  # running, prefetched, 50


async def test_a_check_that_raises_reaches_the_caller_and_nobody_else(
    runner: ModelRunner, texts: Texts
) -> None:
    def should_stop() -> bool:
        raise RuntimeError("the check failed")

    with pytest.raises(RuntimeError, match="the check failed"):
        await runner.embed(texts(1), should_stop=should_stop)
    assert not (await runner.embed(texts(1))).failed


async def test_a_caller_that_goes_away_takes_its_waiting_microbatches_along(
    runner: ModelRunner, backend: Any, texts: Texts
) -> None:
    backend.gate.clear()
    abandoned = asyncio.create_task(runner.embed(texts(*range(100, 110))))
    await entered(backend)
    await settled()
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    backend.gate.set()
    await runner.embed(texts(50))
    assert len(backend.calls) == 2  # the one that ran, and 50


async def test_closing_finishes_the_running_microbatch_and_fails_the_waiting(
    runner: ModelRunner, backend: Any, texts: Texts
) -> None:
    backend.gate.clear()
    running = asyncio.create_task(runner.embed(texts(1)))
    await entered(backend)
    waiting = [asyncio.create_task(runner.embed(texts(n))) for n in (2, 3)]
    await settled()
    closing = asyncio.create_task(runner.close())
    for task in waiting:
        with pytest.raises(Transient):
            await task
    assert not running.done()
    backend.gate.set()
    await closing
    assert (await running).vectors[0, 0] == 1
    assert backend.closed
    with pytest.raises(Transient):
        await runner.embed(texts(4))


async def test_closing_interrupts_a_model_that_waits_for_a_server(backend: Any, texts: Texts) -> None:
    """A replica in the middle of a long back-off must not hold up the end of the process."""
    backend.interrupt = backend.gate.set
    runner = ModelRunner([lambda: backend, lambda: backend], microbatch_tokens=ONE_TEXT)
    await runner.start()
    forget_calls(backend)
    backend.gate.clear()
    waiting = asyncio.create_task(runner.embed(texts(1)))
    await entered(backend)
    await asyncio.wait_for(runner.close(), 10)
    await waiting


async def test_closing_twice_or_before_the_start_is_harmless(backend: Any) -> None:
    never_started = ModelRunner([lambda: backend], microbatch_tokens=ONE_TEXT)
    await never_started.close()
    started = ModelRunner([lambda: backend], microbatch_tokens=ONE_TEXT)
    await started.start()
    await started.close()
    await started.close()


# --- replicas and parts -----------------------------------------------------------------------------


async def test_replicas_run_at_the_same_time(texts: Texts) -> None:
    backends = [ScriptedBackend(), ScriptedBackend()]
    runner = ModelRunner([lambda: backends[0], lambda: backends[1]], microbatch_tokens=ONE_TEXT)
    await runner.start()
    for backend in backends:
        forget_calls(backend)
        backend.gate.clear()
    embedding = asyncio.create_task(runner.embed(texts(1, 2, 3, 4, 5)))
    for backend in backends:
        await entered(backend)  # each holds a text, neither has come back
    for backend in backends:
        backend.gate.set()
    outcome = await embedding
    assert outcome.vectors[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert sorted(first for backend in backends for (first,) in backend.calls) == [1, 2, 3, 4, 5]
    await runner.close()
    assert all(backend.closed for backend in backends)


async def test_a_replica_that_cannot_be_loaded_fails_the_start_and_the_others_are_closed(
    backend: Any,
) -> None:
    def broken() -> Any:
        raise ModelError("no such device")

    runner = ModelRunner([lambda: backend, broken], microbatch_tokens=ONE_TEXT)
    with pytest.raises(ModelError, match="no such device"):
        await runner.start()
    await runner.close()
    assert backend.closed


async def test_the_texts_of_a_small_owner_come_before_those_of_a_large_one(
    backend: Any, texts: Texts
) -> None:
    runner = ModelRunner([lambda: backend], microbatch_tokens=ONE_TEXT)
    await runner.start()
    forget_calls(backend)
    arrived: list[int] = []
    await runner.embed(
        texts(1, 2, 3, 4, 5),
        owners=np.array([0, 0, 0, 0, 1]),
        on_part=lambda positions, outcome: arrived.extend(int(value) for value in outcome.vectors[:, 0]),
    )
    assert arrived[0] == 5
    assert sorted(arrived) == [1, 2, 3, 4, 5]
    await runner.close()


async def test_the_batch_size_is_asked_for_on_the_models_thread(backend: Any, texts: Texts) -> None:
    asked: list[int] = []

    def budget_of(opened: Any) -> int:
        asked.append(threading.get_ident())
        return 2 * ONE_TEXT

    runner = ModelRunner([lambda: backend], microbatch_tokens=budget_of)
    await runner.start()
    forget_calls(backend)
    await runner.embed(texts(1, 2, 3, 4))
    assert [len(call) for call in backend.calls] == [2, 2]
    assert set(asked) == backend.threads
    await runner.close()
