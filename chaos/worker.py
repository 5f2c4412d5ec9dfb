"""A worker process as the product starts it, but for what only chaos wants.

Its stub model takes time and writes down, for each call, how many chunks it embedded (before the answer is
used: a killed process's work counts too). And it passes the boundaries of `chaos.boundaries`, where a trap
may be set. A certain word may be poison to its model. All is told by the environment, which an orchestrator
hands on to its workers.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chaos import boundaries
from embedfleet import worker_process
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.backends.stub import StubBackend
from support import poisoned

SECONDS_A_CHUNK = "CHAOS_SECONDS_A_CHUNK"
TALLY = "CHAOS_TALLY"


def slow_down(seconds_a_chunk: float, tally: Path) -> None:
    """The stub model of this process takes so long, and counts."""
    embed = StubBackend.embed_tokens

    def embed_slowly(self: StubBackend, batch: TokenBatch) -> NDArray[np.float32]:
        vectors = embed(self, batch)
        if np.any(batch.token_ids):  # zeros only: the model is warming up
            time.sleep(seconds_a_chunk * len(batch))
            with tally.open("ab", buffering=0) as file:
                file.write(b"%d\n" % len(batch))
        return vectors

    StubBackend.embed_tokens = embed_slowly  # type: ignore[method-assign]


def embedded(tally: Path) -> int:
    """Chunks that all workers together have embedded."""
    return sum(int(line) for line in tally.read_text().split()) if tally.exists() else 0


def prepare() -> None:
    """Make this process a worker of chaos. Ray calls it in each of its own processes."""
    if TALLY in os.environ:
        slow_down(float(os.environ[SECONDS_A_CHUNK]), Path(os.environ[TALLY]))
    if boundaries.TRAP in os.environ:
        boundaries.watch(Path(os.environ[boundaries.TRAP]))
    if poisoned.FATE in os.environ:
        poisoned.infect()


def main() -> int:
    prepare()
    return worker_process.main()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
