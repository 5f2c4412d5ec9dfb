"""A backend whose misbehaviour a test writes down in token ids."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from blockbuster import blockbuster_ctx
from numpy.typing import NDArray

from embedfleet.errors import ModelError
from embedfleet.inference.backend import ModelInfo, TokenBatch
from support.threads import no_thread_left

DIM = 4
NOT_FINITE_ID = 666
POISON_ID = 13
BREAKING_ID = 99


class ScriptedBackend:
    """A text's vector is its first token id, DIM times. Poison fails the whole call it is in.

    While `gate` is set the model runs freely; cleared, a call waits in it, after announcing `entered`.
    `calls` holds the first token ids of every call's texts; `memory_tokens` is what one call may hold.
    """

    def __init__(self) -> None:
        self.info = ModelInfo("scripted", DIM, 512, "0" * 16, Path("tokenizer.json"), "", 0, pads=True)
        self.calls: list[list[int]] = []
        self.threads: set[int] = set()
        self.closed = False
        self.memory_tokens = 1_000_000
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        firsts = batch.token_ids[np.cumsum(batch.lengths) - batch.lengths].tolist()
        self.threads.add(threading.get_ident())
        self.calls.append(firsts)
        self.entered.release()
        self.gate.wait()
        if len(batch) * int(batch.lengths.max()) > self.memory_tokens:
            raise MemoryError("too much at once")
        if POISON_ID in firsts:
            raise ModelError("poison")
        if BREAKING_ID in firsts:
            raise SystemExit("the thread breaks")
        vectors = np.repeat(np.array(firsts, dtype=np.float32)[:, None], DIM, axis=1)
        vectors[np.array(firsts) == NOT_FINITE_ID, 0] = np.nan
        return vectors

    def close(self) -> None:
        self.closed = True


def texts(*first_ids: int, length: int = 8) -> TokenBatch:
    """Texts of equal length, told apart by their first token id."""
    ids = np.zeros((len(first_ids), length), dtype=np.uint32)
    ids[:, 0] = first_ids
    return TokenBatch(ids.ravel(), np.full(len(first_ids), length, dtype=np.int64))


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture(name="texts")
def texts_factory() -> Callable[..., TokenBatch]:
    return texts


@pytest.fixture
def nothing_blocks_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx("embedfleet"):
        yield


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    with no_thread_left("model"):
        yield
