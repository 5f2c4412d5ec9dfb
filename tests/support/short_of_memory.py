"""A model in a process whose memory ends in the middle of its work: `python -m support.short_of_memory JSON`.

Prints what failed, whether all vectors have length 1, and whether less is embedded at once from now on.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.pool import ModelPool
from embedfleet.settings import ModelsSettings
from support.import_path import import_path


def embed_short_of_memory(
    entry: dict[str, Any] | None, *, texts: int, budget_tokens: int, spare_mb: int
) -> str:
    """What the process printed. `entry` None: the bundled MiniLM. Texts have 254 tokens; the memory allowed
    is that of the loaded model and `spare_mb`."""
    asked = {"entry": entry, "texts": texts, "budget_tokens": budget_tokens, "spare_mb": spare_mb}
    done = subprocess.run(
        [sys.executable, "-m", "support.short_of_memory", json.dumps(asked)],
        env=os.environ | {"PYTHONPATH": import_path(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def _embed(entry: dict[str, Any] | None, texts: int, budget_tokens: int, spare_mb: int) -> None:
    models = {} if entry is None else {"own": entry}
    settings = ModelsSettings.model_validate(
        {"microbatch_tokens": budget_tokens, "threads": 1, "catalogue": models}
    )
    runner = await ModelPool(Catalogue(settings), settings).get("own" if entry else "minilm")
    limit = psutil.Process().memory_info().vms + spare_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    batch = TokenBatch(np.full(texts * 254, 2000, dtype=np.uint32), np.full(texts, 254))
    outcome = await runner.embed(batch)
    lengths = np.linalg.norm(outcome.vectors, axis=1)
    print(dict(outcome.failed), bool(np.allclose(lengths, 1)), runner.microbatch_tokens < budget_tokens)
    await runner.close()


if __name__ == "__main__":
    asyncio.run(_embed(**json.loads(sys.argv[1])))
