"""infinity's engine on torch, with the fp32 weights from a local folder, on the CPU."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.serve import Encode, serve


@contextmanager
def opened(folder: Path) -> Iterator[Encode]:
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=str(folder),
            engine="torch",
            device="cpu",
            bettertransformer=False,  # gone from the libraries it was in
            model_warmup=False,
        )
    )
    # One loop for all calls: the engine's queues belong to it.
    with asyncio.Runner() as runner:
        runner.run(engine.astart())

        def encode(texts: Sequence[str]) -> NDArray[np.float32]:
            vectors, _ = runner.run(engine.embed(sentences=list(texts)))
            return np.stack(vectors).astype(np.float32)

        yield encode
        runner.run(engine.astop())


if __name__ == "__main__":
    serve(opened, ["infinity-emb", "sentence-transformers", "torch", "transformers", "numpy"])
