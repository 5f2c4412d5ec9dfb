"""embedfleet with a stub model that a certain word kills: `python -m support.poisoned COMMAND…`, or without
arguments a worker process. `POISON_DOES` says what the word does to the process."""

from __future__ import annotations

import os
import signal
import sys
from time import sleep

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.backends.stub import StubBackend
from embedfleet.inference.model_files import bundled_tokenizer

POISON = "xylophone"
FATE = "POISON_DOES"
FATES = ("kill", "hang", "exhaust")
COMMAND = (sys.executable, "-m", "support.poisoned")


def infect() -> None:
    ids, _ = load_tokenizer(bundled_tokenizer()).encode_batch([POISON])
    poison = ids[1]  # the word's second piece: the first, `x`, is common
    healthy = StubBackend.embed_tokens

    def embed_tokens(self: StubBackend, batch: TokenBatch) -> NDArray[np.float32]:
        if poison in batch.token_ids:
            suffer(os.environ[FATE])
        return healthy(self, batch)

    StubBackend.embed_tokens = embed_tokens  # type: ignore[method-assign]


def suffer(fate: str) -> None:
    match fate:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            while True:
                sleep(60)
        case "exhaust":
            raise MemoryError("the text takes all of it")


def poisoned(text: str, *bad: int) -> str:
    """The text with the word in these of its paragraphs."""
    parts = text.split("\n\n")
    return "\n\n".join(f"{POISON} {part}" if n in bad else part for n, part in enumerate(parts))


def main() -> None:
    infect()
    if len(sys.argv) > 1:
        from embedfleet.cli import main as command

        command()
    else:
        from embedfleet import worker_process

        code = worker_process.main()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
