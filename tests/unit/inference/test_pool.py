"""Models are loaded once, however they are asked for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from embedfleet.errors import ModelError, ModelUnavailable, Remedy, Transient, UnknownModel
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.settings import ModelsSettings
from support.hangs import HANG_SECONDS
from support.threads import no_thread_left
from unit.inference.conftest import BREAKING_ID, texts


class CountingCatalogue(Catalogue):
    """The real catalogue; counts loads, can make one fail, and holds them while the gate is shut."""

    def __init__(self) -> None:
        super().__init__(ModelsSettings())
        self.loads: list[str] = []
        self.fail_next = False
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def open(self, name: str, device: str | None = None) -> Any:
        self.loads.append(name)
        self.entered.release()
        self.gate.wait()
        if self.fail_next:
            self.fail_next = False
            raise ModelError("out of file handles", remedy=Remedy.EXAMINE)
        return super().open(name, device)


@pytest.fixture
def catalogue() -> CountingCatalogue:
    return CountingCatalogue()


@pytest.fixture
async def pool(catalogue: CountingCatalogue) -> AsyncIterator[ModelPool]:
    with no_thread_left("model"):
        pool = ModelPool(catalogue, ModelsSettings())
        yield pool
        catalogue.gate.set()
        await pool.close()


async def test_a_model_asked_for_by_many_at_once_is_loaded_once(
    pool: ModelPool, catalogue: CountingCatalogue
) -> None:
    runners = await asyncio.gather(*(pool.get("stub") for _ in range(10)))
    assert catalogue.loads == ["stub"]
    assert len({id(runner) for runner in runners}) == 1
    assert pool.loaded() == ["stub"]


async def test_a_failed_load_reaches_all_who_waited_and_may_be_tried_again(
    pool: ModelPool, catalogue: CountingCatalogue
) -> None:
    catalogue.fail_next = True
    failures = await asyncio.gather(*(pool.get("stub") for _ in range(3)), return_exceptions=True)
    assert [str(failure) for failure in failures] == ["out of file handles"] * 3
    assert catalogue.loads == ["stub"]
    assert pool.loaded() == []
    assert (await pool.get("stub")).info.name == "stub"


async def test_an_impatient_caller_does_not_disturb_the_load(
    pool: ModelPool, catalogue: CountingCatalogue
) -> None:
    catalogue.gate.clear()
    impatient = asyncio.create_task(pool.get("stub"))
    await asyncio.to_thread(catalogue.entered.acquire)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert pool.loaded() == []
    catalogue.gate.set()
    assert (await pool.get("stub")).info.name == "stub"
    assert catalogue.loads == ["stub"]


async def test_a_load_that_fails_when_nobody_waits_any_more_is_no_surprise(
    pool: ModelPool, catalogue: CountingCatalogue
) -> None:
    surprises: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: surprises.append(context))
    catalogue.gate.clear()
    catalogue.fail_next = True
    impatient = asyncio.create_task(pool.get("stub"))
    await asyncio.to_thread(catalogue.entered.acquire)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    catalogue.gate.set()
    await pool.close()
    gc.collect()
    assert surprises == []


async def test_an_unknown_model_is_said_to_be_unknown(pool: ModelPool) -> None:
    with pytest.raises(UnknownModel, match="did you mean `stub`"):
        await pool.get("stubb")


async def test_closing_while_a_model_loads_leaves_no_thread(
    pool: ModelPool, catalogue: CountingCatalogue
) -> None:
    catalogue.gate.clear()
    with no_thread_left("model"):
        loading = asyncio.create_task(pool.get("stub"))
        await asyncio.to_thread(catalogue.entered.acquire)
        closing = asyncio.create_task(pool.close())
        catalogue.gate.set()
        await closing
        await loading
    assert pool.loaded() == []


async def test_a_closed_pool_sends_its_callers_elsewhere(pool: ModelPool) -> None:
    await pool.close()
    with pytest.raises(Transient):
        await pool.get("stub")


# --- within a memory budget -------------------------------------------------------------------------


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        self.seconds += 0.001  # two moments are never the same
        return self.seconds


def three_models(**models: Any) -> ModelsSettings:
    """Each takes 100 MiB; two of them fit."""
    entries = {
        name: {"backend": "stub", "dim": dim, "memory_mb": 100}
        for name, dim in zip("abc", (8, 9, 10), strict=True)
    }
    return ModelsSettings.model_validate({"catalogue": entries, "memory_mb": {"cpu": 250}} | models)


@pytest.fixture
async def small_pool() -> AsyncIterator[ModelPool]:
    settings = three_models()
    pool = ModelPool(Catalogue(settings), settings, now=Clock())
    yield pool
    await pool.close()


async def test_the_model_unused_for_longest_makes_room(small_pool: ModelPool) -> None:
    for name in ("a", "b", "a", "c"):
        async with small_pool.using(name) as runner:
            assert runner.info.name == name
    assert small_pool.loaded() == ["a", "c"]


async def test_a_model_at_work_is_waited_for(small_pool: ModelPool) -> None:
    async with small_pool.using("a"), small_pool.using("b"):
        waiting = asyncio.create_task(small_pool.get("c"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert small_pool.loaded() == ["a", "b"]
    assert (await waiting).info.name == "c"
    assert small_pool.loaded() == ["a", "c"]  # the first that was let go went


async def test_one_that_is_never_idle_does_not_keep_another_out(small_pool: ModelPool) -> None:
    """Claims of `a` and `b` overlap without a gap; `c` gets its turn."""
    stop = asyncio.Event()

    async def busy(name: str) -> None:
        while not stop.is_set():
            async with small_pool.using(name) as runner:
                await runner.embed(TokenBatch(np.zeros(1, dtype=np.uint32), np.array([1])))

    claims = [asyncio.create_task(busy(name)) for name in "aabb"]
    async with small_pool.using("a"):
        pass
    async with asyncio.timeout(HANG_SECONDS), small_pool.using("c") as runner:
        assert runner.info.name == "c"
    stop.set()
    await asyncio.gather(*claims)


async def test_a_model_that_never_fits_is_refused_and_others_go_on(small_pool: ModelPool) -> None:
    settings = three_models(memory_mb={"cpu": 99})
    pool = ModelPool(Catalogue(settings), settings)
    with pytest.raises(ModelError, match="takes about 100 MiB of cpu"):
        await pool.get("a")
    await pool.close()


async def test_one_that_is_loaded_anew_needs_no_room_beside_itself(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread ended, so nothing of it is left; two of it would not fit."""
    monkeypatch.setattr("threading.excepthook", lambda escaped: None)
    backend.info = replace(backend.info, name="stub")

    class Breakable(Catalogue):
        def open(self, name: str, device: str | None = None) -> Any:
            return backend

        def memory_mb(self, name: str) -> int:
            return 60

    settings = ModelsSettings(memory_mb={"cpu": 100})
    pool = ModelPool(Breakable(settings), settings)
    first = await pool.get("stub")
    with pytest.raises(Transient):
        await first.embed(texts(BREAKING_ID))
    await asyncio.to_thread(first._replicas[0].join)
    async with asyncio.timeout(HANG_SECONDS), pool.using("stub") as again:
        assert again is not first
    await pool.close()


async def test_a_load_that_fails_gives_its_room_to_the_model_that_waits_for_it() -> None:
    asked = asyncio.Event()

    class OneFits(CountingCatalogue):
        def memory_mb(self, name: str) -> int:
            if name == "static":
                asked.set()  # the pool looks for room in the same step
            return 100

    catalogue = OneFits()
    pool = ModelPool(catalogue, ModelsSettings(memory_mb={"cpu": 150}))
    catalogue.gate.clear()
    catalogue.fail_next = True
    failing = asyncio.create_task(pool.get("stub"))
    await asyncio.to_thread(catalogue.entered.acquire)
    waiting = asyncio.create_task(pool.get("static"))
    async with asyncio.timeout(30):
        await asked.wait()
        assert not waiting.done()
        catalogue.gate.set()
        with pytest.raises(ModelError, match="out of file handles"):
            await failing
        assert (await waiting).info.name == "static"
    await pool.close()


# --- trouble ----------------------------------------------------------------------------------------


async def test_tasks_of_a_model_that_cannot_be_loaded_wait_if_so_wished(catalogue: CountingCatalogue) -> None:
    clock = Clock()
    pool = ModelPool(catalogue, ModelsSettings(on_load_failure="wait"), now=clock)
    catalogue.fail_next = True
    with pytest.raises(ModelUnavailable, match="out of file handles"):
        await pool.get("stub")
    with pytest.raises(ModelUnavailable, match="out of file handles: tried again later") as told:
        await pool.get("stub")
    assert told.value.remedy is Remedy.EXAMINE  # the remedy of the failure itself
    assert catalogue.loads == ["stub"]  # it is not loaded at every try
    clock.seconds += 60
    assert (await pool.get("stub")).info.name == "stub"
    await pool.close()


async def test_a_model_in_quarantine_is_closed_refused_and_loaded_anew(catalogue: CountingCatalogue) -> None:
    clock = Clock()
    pool = ModelPool(catalogue, ModelsSettings(), now=clock)
    first = await pool.get("stub")
    await pool.quarantine("stub", "it dreams")
    assert pool.loaded() == []
    with pytest.raises(ModelUnavailable, match="model stub is in quarantine: it dreams"):
        await pool.get("stub")
    clock.seconds += 60
    assert await pool.get("stub") is not first
    await pool.close()


async def test_each_quarantine_is_twice_as_long_until_the_model_is_trusted_again(
    catalogue: CountingCatalogue,
) -> None:
    clock = Clock()
    pool = ModelPool(catalogue, ModelsSettings(), now=clock)

    async def pause() -> float:
        await pool.quarantine("stub", "it dreams")
        begun = clock.seconds
        while True:
            clock.seconds += 0.25
            try:
                await pool.get("stub")
                return clock.seconds - begun
            except ModelUnavailable:
                continue

    pauses = [await pause() for _ in range(3)]
    assert pauses[0] < pauses[1] < pauses[2]
    pool.trusted("stub")
    assert await pause() == pytest.approx(pauses[0], abs=0.3)
    await pool.close()


async def test_a_quarantine_leaves_no_thread_of_a_load_under_way(catalogue: CountingCatalogue) -> None:
    """The load is newer than the model that was found wrong."""
    pool = ModelPool(catalogue, ModelsSettings(), now=Clock())
    catalogue.gate.clear()
    loading = asyncio.create_task(pool.get("stub"))
    await asyncio.to_thread(catalogue.entered.acquire)
    await pool.quarantine("stub", "it dreams")
    catalogue.gate.set()
    await loading
    await pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "model"]
