"""Models are loaded once, however they are asked for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from embedfleet.errors import ModelError, Transient, UnknownModel
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.settings import ModelsSettings


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
            raise ModelError("out of file handles")
        return super().open(name, device)


@pytest.fixture
def catalogue() -> CountingCatalogue:
    return CountingCatalogue()


@pytest.fixture
async def pool(catalogue: CountingCatalogue) -> AsyncIterator[ModelPool]:
    pool = ModelPool(catalogue, ModelsSettings())
    yield pool
    catalogue.gate.set()
    await pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "model"]


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
    loading = asyncio.create_task(pool.get("stub"))
    await asyncio.to_thread(catalogue.entered.acquire)
    closing = asyncio.create_task(pool.close())
    catalogue.gate.set()
    await closing
    await loading
    assert pool.loaded() == []
    assert not [thread for thread in threading.enumerate() if thread.name == "model"]


async def test_a_closed_pool_sends_its_callers_elsewhere(pool: ModelPool) -> None:
    await pool.close()
    with pytest.raises(Transient):
        await pool.get("stub")
