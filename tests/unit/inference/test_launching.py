"""A model whose device works by itself is given one micro-batch ahead; all else is as with any model."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.errors import ModelStuck, Transient
from embedfleet.inference.backend import LaunchingBackend, ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.finishing import finished
from embedfleet.inference.runner import ModelRunner
from embedfleet.settings import ModelSettings, ModelsSettings
from support.hangs import HANG_SECONDS

pytestmark = pytest.mark.usefixtures("nothing_blocks_the_event_loop", "no_thread_is_left")

Texts = Callable[..., TokenBatch]
ONE_TEXT = 8  # tokens: a budget of one text of `texts` a micro-batch
REFUSED_ID = 77
ENOUGH = 1000


class Launching:
    """A scripted backend that begins a batch at once, and whose results are there when the test says so.

    `begun` holds the first token ids of what was started. Who waits for a result announces `waiting`,
    and needs one of `turns`. A batch with `REFUSED_ID` in it cannot be started.
    """

    def __init__(self, scripted: Any) -> None:
        self.info: ModelInfo = replace(scripted.info, pads=False)  # texts come in their order
        self.begun: list[list[int]] = []
        self.waiting = threading.Semaphore(0)
        self.turns = threading.Semaphore(0)
        self._scripted = scripted

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._scripted.embed_tokens(batch)
        return vectors

    def start(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        firsts = batch.token_ids[np.cumsum(batch.lengths) - batch.lengths].tolist()
        self.begun.append(firsts)
        if REFUSED_ID in firsts:
            raise MemoryError("too much at once")

        def wait() -> NDArray[np.float32]:
            self.waiting.release()
            self.turns.acquire()
            return self.embed_tokens(batch)

        return wait

    def close(self) -> None:
        self._scripted.close()


@pytest.fixture
def model(backend: Any) -> Launching:
    return Launching(backend)


@pytest.fixture
async def runner(model: Launching) -> AsyncIterator[ModelRunner]:
    """One text a micro-batch."""
    runner = await started(model)
    yield runner
    model.turns.release(ENOUGH)
    await runner.close()


async def started(model: Launching, **settings: Any) -> ModelRunner:
    runner = ModelRunner([lambda: model], **{"microbatch_tokens": ONE_TEXT, **settings})
    await runner.start()
    return runner


async def waited_for(model: Launching) -> None:
    """Wait until the thread waits for a result."""
    await asyncio.to_thread(model.waiting.acquire)


async def settled() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def two_in_hand(
    runner: ModelRunner, model: Launching, running: TokenBatch, others: TokenBatch
) -> tuple[asyncio.Task[Any], asyncio.Task[Any]]:
    """`running` is waited for, and the first of `others` is begun: both came while the model was busy."""
    busy = asyncio.create_task(runner.embed(TokenBatch(np.full(8, 5, dtype=np.uint32), np.array([8]))))
    await waited_for(model)
    tasks = asyncio.create_task(runner.embed(running)), asyncio.create_task(runner.embed(others))
    await settled()
    model.turns.release()
    await busy
    await waited_for(model)
    model.begun.remove([5])
    return tasks


async def test_one_microbatch_is_begun_ahead_and_no_more(
    runner: ModelRunner, model: Launching, texts: Texts
) -> None:
    first, others = await two_in_hand(runner, model, texts(1), texts(2, 3, 4))
    assert model.begun == [[1], [2]]
    model.turns.release(ENOUGH)
    assert (await first).vectors[:, 0].tolist() == [1]
    assert (await others).vectors[:, 0].tolist() == [2, 3, 4]


async def test_one_caller_is_enough_to_keep_it_supplied(
    runner: ModelRunner, model: Launching, texts: Texts
) -> None:
    """Two in hand and one at the door: the model finds it there even if the event loop gets no turn."""
    busy = asyncio.create_task(runner.embed(texts(1, 2, 3, 4)))
    await waited_for(model)
    await settled()
    model.turns.release()
    assert model.waiting.acquire(timeout=HANG_SECONDS)
    assert model.begun == [[1], [2], [3]]
    model.turns.release(ENOUGH)
    assert (await busy).vectors[:, 0].tolist() == [1, 2, 3, 4]


async def test_an_interactive_text_waits_only_for_what_is_in_hand(
    runner: ModelRunner, model: Launching, texts: Texts
) -> None:
    bulk = await two_in_hand(runner, model, texts(1), texts(2, 3, 4))
    query = asyncio.create_task(runner.embed(texts(50), interactive=True))
    await settled()
    model.turns.release(ENOUGH)
    await asyncio.gather(*bulk, query)
    assert model.begun[:3] == [[1], [2], [50]]


async def test_a_poisonous_text_is_named_and_its_neighbours_get_vectors(
    model: Launching, texts: Texts
) -> None:
    runner = await started(model, microbatch_tokens=3 * ONE_TEXT)
    model.turns.release(ENOUGH)
    outcome = await runner.embed(texts(1, 2, 13, 4, 5, 666, 7))
    assert set(outcome.failed) == {2, 5}
    assert outcome.vectors[:, 0].tolist() == [1, 2, 0, 4, 5, 0, 7]
    await runner.close()


async def test_memory_that_does_not_hold_a_start_halves_the_budget(model: Launching, texts: Texts) -> None:
    runner = await started(model, microbatch_tokens=4 * ONE_TEXT)
    model.turns.release(ENOUGH)
    outcome = await runner.embed(texts(20, 21, REFUSED_ID, 23))
    assert outcome.vectors[:, 0].tolist() == [20, 21, REFUSED_ID, 23]
    model.begun.clear()
    await runner.embed(texts(20, 21, 22, 23))
    assert [len(begun) for begun in model.begun] == [2, 2]
    await runner.close()


async def test_a_model_that_breaks_its_thread_strands_no_caller(
    runner: ModelRunner, model: Launching, texts: Texts
) -> None:
    escaped: list[Any] = []
    threading.excepthook, original = escaped.append, threading.excepthook
    try:
        tasks = await two_in_hand(runner, model, texts(99), texts(2, 3))
        model.turns.release(ENOUGH)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await runner.close()
    finally:
        threading.excepthook = original
    assert [type(result) for result in results] == [Transient, Transient]
    assert len(escaped) == 1


async def test_a_model_that_does_not_come_back_strands_no_caller(
    model: Launching, backend: Any, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing counts as late before the test says so.
    now = [-math.inf]
    monkeypatch.setattr("embedfleet.inference.runner.monotonic", lambda: now[0])
    runner = await started(model, stuck_after_seconds=0.01)
    tasks = await two_in_hand(runner, model, texts(1), texts(2))
    now[0] = math.inf
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ModelStuck, ModelStuck]
    assert runner.broken
    await runner.close()  # does not wait for the thread
    model.turns.release(ENOUGH)
    await asyncio.to_thread(runner._replicas[0]._thread.join, HANG_SECONDS)
    assert backend.closed


async def test_what_was_begun_ahead_is_timed_from_when_its_turn_came(
    runner: ModelRunner, model: Launching, texts: Texts
) -> None:
    """Else the second of two calls, each well within the limit, would count as hung."""
    tasks = await two_in_hand(runner, model, texts(1), texts(2))
    its_turn = monotonic()
    model.turns.release()
    await waited_for(model)
    running = runner._replicas[0].running
    assert running is not None
    assert running.since >= its_turn
    model.turns.release(ENOUGH)
    await asyncio.gather(*tasks)


async def test_closing_finishes_what_was_begun_and_fails_the_waiting(
    runner: ModelRunner, model: Launching, backend: Any, texts: Texts
) -> None:
    first, second = await two_in_hand(runner, model, texts(1), texts(2))
    third = asyncio.create_task(runner.embed(texts(3)))
    await settled()
    closing = asyncio.create_task(runner.close())
    with pytest.raises(Transient):
        await third
    model.turns.release(ENOUGH)
    await closing
    assert [(await task).vectors[0, 0] for task in (first, second)] == [1, 2]
    assert backend.closed


async def test_a_caller_that_has_gone_is_not_begun(
    runner: ModelRunner, model: Launching, texts: Texts
) -> None:
    first, others = await two_in_hand(runner, model, texts(1), texts(2))
    gone, last = (asyncio.create_task(runner.embed(texts(n))) for n in (3, 4))
    await settled()
    gone.cancel()
    await settled()
    model.turns.release(ENOUGH)
    await asyncio.gather(first, others, last)
    assert model.begun == [[1], [2], [4]]


@pytest.mark.parametrize("settings", [{"dimensions": 8}, {"document_prefix": "passage: "}])
def test_prefixes_and_fewer_dimensions_leave_a_launching_model_one(settings: dict[str, Any]) -> None:
    own = ModelSettings(backend="stub", **settings)
    catalogue = Catalogue(ModelsSettings(catalogue={"own": own, "plain": ModelSettings(backend="stub")}))
    plain = catalogue.open("plain")
    model = finished(Launching(plain), catalogue.describe("own"))
    assert isinstance(model, LaunchingBackend)
    assert not isinstance(catalogue.open("own"), LaunchingBackend)
    batch = TokenBatch(np.arange(10, dtype=np.uint32), np.array([4, 6]))
    wait = model.start(batch)
    model._backend.turns.release()  # type: ignore[attr-defined]
    vectors = wait()
    np.testing.assert_array_equal(vectors, catalogue.open("own").embed_tokens(batch))
    assert vectors.tobytes() != plain.embed_tokens(batch).tobytes()
