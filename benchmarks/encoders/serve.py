"""The side of the encoder: a line on standard input is a request to encode all texts once.

Called with MODEL_FOLDER TEXTS.json VECTORS.npy. The answer is a line of JSON: the seconds it took
on the wall and on the cores. The vectors of the last time, float32 (n, dim), are left in the file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""float32 (n, dim), a row a text."""


def serve(opened: Callable[[Path], AbstractContextManager[Encode]], packages: Sequence[str]) -> None:
    """Load the model, say which versions of `packages` are there, answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they like, only not among the answers
    folder, texts_file, vectors_file = (Path(argument) for argument in sys.argv[1:])
    texts: list[str] = json.loads(texts_file.read_text(encoding="utf-8"))

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    with opened(folder) as encode:
        answer({"versions": {name: version(name) for name in packages}})
        for _ in sys.stdin:
            started, started_cpu = time.perf_counter(), time.process_time()
            vectors = encode(texts)
            taken = {
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - started_cpu,
            }
            np.save(vectors_file, vectors)
            answer(taken)
